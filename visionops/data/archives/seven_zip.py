"""Unpack 7z archives with py7zr, which checks little of its input."""

from __future__ import annotations

import contextlib
import functools
import io
import stat
import struct
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from visionops.errors import DataError

if TYPE_CHECKING:
    from py7zr import SevenZipFile
from visionops.data.archives.sink import MAX_LINK_BYTES, Sink, refuse, refuse_encrypted

__all__ = ["unpack_7z"]

_SIP = 4096
"""Bytes of packed data to pass to py7zr at once: some of its decoders return all output of them, up to 32,768-fold."""
_BROKEN_7Z = (struct.error, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError)
"""Other errors that py7zr raises on damaged files, which it reads with few checks."""

# Allowed methods, by their ids in 7z. Of the others, PPMd crashes Python on damaged data, and the rest are rare.
_7Z_METHODS = frozenset(
    bytes.fromhex(number)
    for number in (
        *("00", "030101", "21", "040108", "040202", "04f71101"),  # Copy, LZMA, LZMA2, Deflate, BZip2, Zstandard
        *("03", "03030103", "03030205", "03030401", "03030501", "03030701", "03030805"),  # Delta; BCJ of processors
    )
)
_7Z_ENCRYPTION = bytes.fromhex("06f10701")


def unpack_7z(path: Path, sink: Sink) -> None:
    """Unpack a 7z archive into ``sink``; raise as `unpack` does."""
    try:
        import py7zr
        from py7zr.exceptions import DecompressionBombError, PasswordRequired
    except ImportError as error:
        raise DataError(f"{path}: needs py7zr; pip install py7zr, or pack it as zip") from error
    try:
        with _SippedFile(path) as file, py7zr.SevenZipFile(file, max_extract_size=sink.limit) as archive:
            _check_methods(archive, path)
            _extract_7z(archive, path, sink)
    except PasswordRequired:
        refuse_encrypted(path, "its content")
    except DecompressionBombError:
        sink.refuse_bomb()
    except _BROKEN_7Z as error:
        text = str(error) or type(error).__name__
        raise DataError(f"{path}: not a whole zip, tar or 7z archive ({text}); fetch or pack it again") from error


class _SippedFile(io.FileIO):
    """A 7z file that returns packed data in small chunks, and its header as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        start = super().read(32)
        self._header = 32 + int.from_bytes(start[12:20], "little")
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = _SIP
        return super().read(size if self.tell() == self._header else min(size, _SIP)) or b""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (OSError, OverflowError) as error:
            raise EOFError(f"something at byte {offset}") from error


def _check_methods(archive: SevenZipFile, path: Path) -> None:
    for folder in {id(member.folder): member.folder for member in archive.files if member.folder}.values():
        for coder in folder.coders:
            if coder["method"] == _7Z_ENCRYPTION:
                refuse_encrypted(path, "its content")
            if coder["method"] not in _7Z_METHODS:
                raise DataError(
                    f"{path}: is compressed by method {coder['method'].hex()}, which is not read; pack it with LZMA2"
                )


def _extract_7z(archive: SevenZipFile, path: Path, sink: Sink) -> None:
    """Check all names and sizes, then let py7zr write its data into files that we open: it opens none itself."""
    from py7zr.io import NullIO, Py7zIO, WriterFactory

    class FileWriter(NullIO):
        def __init__(self, name: str) -> None:
            self._file = files.enter_context(sink.create(name))

        def write(self, data: bytes | bytearray) -> int:
            sink.write(self._file, data)
            return len(data)

        def close(self) -> None:
            files.close()

    class LinkWriter(NullIO):
        def __init__(self, name: str) -> None:
            self._name, self._text = name, b""

        def write(self, data: bytes | bytearray) -> int:
            self._text += data
            return len(data)

        def close(self) -> None:
            sink.link(self._name, self._text.decode().replace("\\", "/"))

    class Factory(WriterFactory):
        def create(self, filename: str) -> Py7zIO:
            return wanted[filename]()

    wanted: dict[str, Callable[[], Py7zIO]] = {}
    declared = 0
    for member in archive.files:
        sink.count()
        if member.is_directory:
            continue
        declared += member.uncompressed
        stored = member.filename.replace("\\", "/")
        name = sink.name(stored)
        key = str(sink.folder / PurePosixPath(member.filename))
        if key in wanted:
            refuse(path, stored, "occurs twice")
        if member.is_symlink and member.uncompressed > MAX_LINK_BYTES:
            refuse(path, stored, "is a link that is too long")
        if not member.is_symlink and member.st_fmt not in (None, 0, stat.S_IFREG):
            refuse(path, stored, "is a device or pipe")
        writer = LinkWriter if member.is_symlink else FileWriter
        wanted[key] = NullIO if name is None else functools.partial(writer, name)
    if declared > sink.limit:
        sink.refuse_bomb()
    with contextlib.ExitStack() as files:
        archive.extractall(sink.folder, factory=Factory())
