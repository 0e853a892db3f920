"""List files of a data set, check their names, read image headers, and write folders atomically."""

from __future__ import annotations

import contextlib
import errno
import glob
import operator
import os
import re
import shutil
import time
import unicodedata
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from visionops.errors import DataError, ImageError
from visionops.inference.image import ImageHeader, read_header
from visionops.inference.image_types import IMAGE_SUFFIXES
from visionops.inference.jpeg import read_simple_jpeg

__all__ = ["IMAGE_SUFFIXES", "FileInfo", "atomic_folder", "describe_os_error", "file_header", "safe_name", "walk_files"]

_JPEG_HEAD_BYTES = 65_536
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, halves of surrogate pairs, line and paragraph separators."""
_DRIVE = re.compile(r"[A-Za-z]:")
_STALE_SECONDS = 24 * 3600


class FileInfo(NamedTuple):
    """A file below a folder."""

    name: str
    """Relative POSIX path."""
    num_bytes: int
    mtime_ns: int

    @property
    def is_image(self) -> bool:
        """Whether its suffix, in any case, is in the list of accepted image types."""
        return os.path.splitext(self.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 - Path costs 5x, per file


def walk_files(root: Path, hidden: list[str] | None = None) -> Iterator[FileInfo]:
    """Yield every file below ``root`` except hidden files and folders; follow links, but not loops.

    Args:
        hidden: List that receives the names of hidden files and folders.

    Raises:
        DataError: A folder cannot be listed.
    """
    yield from _walk(str(root), "", set(), [] if hidden is None else hidden)


def _walk(folder: str, prefix: str, seen: set[tuple[int, int]], hidden: list[str]) -> Iterator[FileInfo]:
    try:
        found = _list(folder, seen)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({describe_os_error(error)}); check its permissions") from error
    for name, status in found:
        if name[0] == ".":
            hidden.append(prefix + name)
        elif status is None:
            yield from _walk(f"{folder}/{name}", f"{prefix}{name}/", seen, hidden)
        else:
            yield FileInfo(prefix + name, status.st_size, status.st_mtime_ns)


def _list(folder: str, seen: set[tuple[int, int]]) -> list[tuple[str, os.stat_result | None]]:
    """Return the files of a folder with their status, and its folders with None, sorted; empty if visited before."""
    descriptor = os.open(folder, os.O_RDONLY)  # relative to it, a file's status costs two thirds of that by its path
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in seen:
            return []
        seen.add((status.st_dev, status.st_ino))
        found: list[tuple[str, os.stat_result | None]] = []
        with os.scandir(descriptor) as entries:
            for entry in sorted(entries, key=operator.attrgetter("name")):
                try:
                    if entry.name[0] == "." or entry.is_dir():
                        found.append((entry.name, None))
                    elif entry.is_file():
                        found.append((entry.name, entry.stat()))
                except OSError:  # a file that vanished, or a link in a loop: skip it
                    continue
        return found
    finally:
        os.close(descriptor)


def safe_name(name: str) -> str | None:
    """Return ``name`` as a normal relative POSIX path (``./a//b.jpg`` becomes ``a/b.jpg``), or None if it is unsafe.

    Unsafe names are empty or absolute, or contain ``..``, a drive letter, a backslash, a control character, a line
    break, or bytes that are not Unicode. Any other space is allowed: macOS and Japanese keyboards write U+202F and
    U+3000.
    """
    if not name or name[0] == "/" or "\\" in name or (name[1:2] == ":" and _DRIVE.match(name)):
        return None
    if not name.isprintable() and not _UNSAFE_CATEGORIES.isdisjoint(map(unicodedata.category, name)):
        return None
    if ".." not in name and "//" not in name and "./" not in name and name[-1] not in "/.":
        return name  # the common case, at a tenth of the cost
    parts = PurePosixPath(name).parts
    return None if ".." in parts or not parts else "/".join(parts)


def file_header(path: Path, where: str) -> ImageHeader:
    """Read the image header of a file. Of a JPEG only the first 64 KiB are read, which hold size and EXIF.

    Raises:
        ImageError: The file is not a usable image, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_JPEG_HEAD_BYTES)
            if header := read_simple_jpeg(head):
                return header
            # Other formats may store EXIF or the frame count at their end: a partial read would give wrong values.
            if head[:2] == b"\xff\xd8" and len(head) == _JPEG_HEAD_BYTES:
                with contextlib.suppress(ImageError):
                    return read_header(head, where=where)
            return read_header(head + file.read(), where=where)
    except OSError as error:
        raise ImageError(f"{where}: cannot be read ({describe_os_error(error)})", "not_an_image") from error


def describe_os_error(error: OSError) -> str:
    """Return the system's message without number and path, such as ``no space left on device``."""
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def atomic_folder(target: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a temporary sibling folder that becomes ``target`` if the block succeeds and is removed if not.

    Args:
        replace: If ``target`` exists at the end: replace it, or keep it (another process was faster, with the same
            content).

    Raises:
        DataError: The folder cannot be written: it is read-only, the disk is full, or a file has its name.
    """
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}.tmp"
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        temporary.mkdir()
        yield temporary
        _move_into_place(temporary, target, replace=replace)
    except OSError as error:
        fix = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else "choose another folder"
        raise DataError(f"{target}: cannot be written ({describe_os_error(error)}); {fix}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, target: Path, *, replace: bool) -> None:
    if not replace:
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        return
    old = temporary.with_suffix(".old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(target: Path) -> None:
    """Remove what a killed process left, if it is a day old, so that no running process loses its folder."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
