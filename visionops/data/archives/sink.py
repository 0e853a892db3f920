"""The folder that members of an archive are written to, within the limits."""

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
"""How many times its own size an archive may unpack to; a GiB it may in any case. Images hardly shrink."""
FREE_EXPANSION = 1 << 30
CHUNK = 1 << 20
MAX_LINK_BYTES = 4096


class Sink:
    """The folder that members are written to, within the limits."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.limit = max(FREE_EXPANSION, path.stat().st_size * MAX_EXPANSION)
        """Bytes of all files together."""
        self.members = 0
        self._bytes = 0
        self._links: list[_Link] = []

    def count(self) -> None:
        """Count one member, of whatever kind."""
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise DataError(f"{self.path}: holds more than {MAX_MEMBERS} files; split it")

    def name(self, told: str) -> str | None:
        """Return the relative path of a member that is a file or link; None for what Finder adds."""
        name = None if told[1:2] == ":" else safe_name(told)
        if name is None:
            refuse(self.path, told, "is not a plain path below the archive")
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
        """Write a piece of a file, and count its bytes."""
        # Counted as it comes: what a header declares is not what is in there.
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
        """Remember a link, for `make_links`."""
        self._links.append(_Link(name, target, is_hard))

    def refuse_bomb(self) -> NoReturn:
        """Raise for an archive that unpacks to too much."""
        raise DataError(f"{self.path}: unpacks to more than {self.limit} bytes; refused as a decompression bomb")

    def make_links(self) -> None:
        """Make the links: after all files, so that none is written through one. Each must end at a file of ours."""
        top = self.folder.resolve()
        for name, link, is_hard in self._links:
            destination = posixpath.normpath(posixpath.join("" if is_hard else posixpath.dirname(name), link))
            if posixpath.isabs(destination) or destination.split("/")[0] == ".." or destination[1:2] == ":":
                refuse(self.path, name, "is a link out of the archive")
            target = self.folder / name
            if target.parent.resolve() != top / posixpath.dirname(name):
                refuse(self.path, name, "is a link below a link")
            if is_hard and destination == name and target.is_file():
                continue  # tar writes a file that is named twice so
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(posixpath.relpath(destination, posixpath.dirname(name) or "."))
            except FileExistsError:
                self._refuse_twice(name)
        for name, _, _ in self._links:
            try:
                real = (self.folder / name).resolve(strict=True)
            except (OSError, RuntimeError):
                refuse(self.path, name, "is a link to what the archive does not hold")
            if not real.is_relative_to(top):
                refuse(self.path, name, "is a link out of the archive")

    def _refuse_twice(self, name: str) -> NoReturn:
        target = self.folder / name
        status = target.lstat()
        if stat.S_ISDIR(status.st_mode):
            refuse(self.path, name, "is a file and a folder at once")
        same = (p for p in sorted(target.parent.iterdir()) if os.path.samestat(p.lstat(), status))
        other = posixpath.join(posixpath.dirname(name), next(same).name)
        why = "is there twice" if other == name else f"is one file with {other!r} on this disk"
        refuse(self.path, name, why)


class _Link(NamedTuple):
    name: str
    target: str
    """Relative to the link's folder if it is symbolic, to the archive's top if it is hard."""
    is_hard: bool


def refuse(path: Path, name: str, why: str) -> NoReturn:
    """Raise for a member that must not be unpacked."""
    raise DataError(f"{path}: {name!r} {why}; nothing was unpacked; pack the folder again")


def refuse_encrypted(path: Path, name: str) -> NoReturn:
    """Raise for a member that needs a password."""
    raise DataError(f"{path}: {name} is encrypted; pack it again without a password")
