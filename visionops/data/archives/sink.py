"""Write members of an archive into a folder, within limits."""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from visionops.data.files import safe_name
from visionops.errors import DataError

__all__ = [
    "CHUNK",
    "FREE_EXPANSION",
    "MAX_EXPANSION",
    "MAX_LINK_BYTES",
    "MAX_MEMBERS",
    "Sink",
    "refuse",
    "refuse_encrypted",
]

MAX_MEMBERS = 5_000_000
MAX_EXPANSION = 200
"""Maximum ratio of unpacked to packed size; one GiB is always allowed. Images hardly compress."""
FREE_EXPANSION = 1 << 30
CHUNK = 1 << 20
MAX_LINK_BYTES = 4096


class Sink:
    """A folder that receives the members of an archive, within limits."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.limit = max(FREE_EXPANSION, path.stat().st_size * MAX_EXPANSION)
        """Maximum number of bytes of all files together."""
        self.members = 0
        self._bytes = 0
        self._links: list[_Link] = []

    def count(self) -> None:
        """Count one member of any kind."""
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise DataError(f"{self.path}: holds more than {MAX_MEMBERS} files; split it")

    def name(self, member: str) -> str | None:
        """Return the relative path of a member that is a file or link; None for files that Finder adds."""
        name = None if member[1:2] == ":" else safe_name(member)
        if name is None:
            refuse(self.path, member, "is not a plain path inside the archive")
        parts = name.split("/")
        return None if "__MACOSX" in parts or parts[-1].startswith("._") else name

    def create(self, name: str) -> IO[bytes]:
        """Open a new file."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            return target.open("xb")
        except FileExistsError:
            self._refuse_twice(name)

    def write(self, file: IO[bytes], chunk: bytes | bytearray) -> None:
        """Write a chunk of a file, and count its bytes."""
        # Counted while writing: the size in a header may be wrong.
        self._bytes += len(chunk)
        if self._bytes > self.limit:
            self.refuse_bomb()
        file.write(chunk)

    def save(self, name: str, data: IO[bytes]) -> None:
        """Write a file."""
        with self.create(name) as file:
            while chunk := data.read(CHUNK):
                self.write(file, chunk)

    def link(self, name: str, target: str, *, is_hard: bool = False) -> None:
        """Store a link for `make_links`."""
        self._links.append(_Link(name, target, is_hard))

    def refuse_bomb(self) -> NoReturn:
        """Raise for an archive that unpacks to too many bytes."""
        raise DataError(f"{self.path}: unpacks to more than {self.limit} bytes; refused as a decompression bomb")

    def make_links(self) -> None:
        """Create the links after all files, so that no file is written through one. Each must end at a file here."""
        top = self.folder.resolve()
        for name, link, is_hard in self._links:
            destination = posixpath.normpath(posixpath.join("" if is_hard else posixpath.dirname(name), link))
            if posixpath.isabs(destination) or destination.split("/")[0] == ".." or destination[1:2] == ":":
                refuse(self.path, name, "is a link to a place outside the archive")
            target = self.folder / name
            if target.parent.resolve() != top / posixpath.dirname(name):
                refuse(self.path, name, "is a link below a link")
            if is_hard and destination == name and target.is_file():
                continue  # tar repeats a file in this way
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(posixpath.relpath(destination, posixpath.dirname(name) or "."))
            except FileExistsError:
                self._refuse_twice(name)
        for name, _, _ in self._links:
            try:
                real = (self.folder / name).resolve(strict=True)
            except (OSError, RuntimeError):
                refuse(self.path, name, "is a link to a file that is not in the archive")
            if not real.is_relative_to(top):
                refuse(self.path, name, "is a link to a place outside the archive")

    def _refuse_twice(self, name: str) -> NoReturn:
        target = self.folder / name
        status = target.lstat()
        if stat.S_ISDIR(status.st_mode):
            refuse(self.path, name, "is both a file and a folder")
        same = (p for p in sorted(target.parent.iterdir()) if os.path.samestat(p.lstat(), status))
        other = posixpath.join(posixpath.dirname(name), next(same).name)
        why = "occurs twice" if other == name else f"is the same file as {other!r} on this disk"
        refuse(self.path, name, why)


class _Link(NamedTuple):
    name: str
    target: str
    """Relative to the link's folder if it is symbolic, to the archive's top if it is a hard link."""
    is_hard: bool


def refuse(path: Path, name: str, why: str) -> NoReturn:
    """Raise for a member that must not be unpacked."""
    raise DataError(f"{path}: {name!r} {why}; nothing was unpacked; pack the folder again")


def refuse_encrypted(path: Path, name: str) -> NoReturn:
    """Raise for a member that needs a password."""
    raise DataError(f"{path}: {name} is encrypted; pack it again without a password")
