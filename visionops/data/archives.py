"""Unpack zip, tar and 7z archives from anywhere: within limits, below one folder, whole or not at all.

What a file is, its first bytes decide, not its suffix. In all three formats the same holds:

* A name is a plain path below the archive. In zip and 7z a backslash separates folders, as PowerShell 5 writes it.
* Two members of one name are refused; names that differ in case or Unicode form only where the disk cannot hold both.
* ``__MACOSX`` and AppleDouble files (``._x``), which Finder adds, are left out.
* Links come last and end at a file of the archive.

A zip entry without the flag for UTF-8 says nothing about its encoding. All such names of an archive are read as UTF-8
if they are valid UTF-8 (Finder); else as CP932 if all that is not ASCII are two-byte characters of it and code page 437
would show box drawings or Greek (Japanese Windows); else as code page 437, which is the standard's.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

from visionops.data.files import IMAGE_SUFFIXES, safe_name
from visionops.errors import DataError

if TYPE_CHECKING:
    from py7zr import SevenZipFile

__all__ = ["MAX_EXPANSION", "MAX_MEMBERS", "unpack", "unwrap"]

MAX_MEMBERS = 5_000_000
MAX_EXPANSION = 200
"""How many times its own size an archive may unpack to; a GiB it may in any case. Images hardly shrink."""
_FREE_EXPANSION = 1 << 30
_CHUNK = 1 << 20
_MAX_LINK_BYTES = 4096
_MAX_TAR_HEADER = 1 << 24
_SIP = 4096
"""Bytes of packed data that py7zr gets at once: some of its decoders give all that comes of them, up to 32,768-fold."""

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
_UNUSABLE = (ValueError, UnicodeError, RuntimeError)
_BROKEN_7Z = (struct.error, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError)
"""What py7zr also raises on damaged files, which it reads with few checks."""

# By their numbers in 7z. py7zr knows more: of those, PPMd crashes Python on damaged data, and the others are rare.
_7Z_METHODS = frozenset(
    bytes.fromhex(number)
    for number in (
        *("00", "030101", "21", "040108", "040202", "04f71101"),  # Copy, LZMA, LZMA2, Deflate, BZip2, Zstandard
        *("03", "03030103", "03030205", "03030401", "03030501", "03030701", "03030805"),  # Delta; BCJ of processors
    )
)
_7Z_ENCRYPTION = bytes.fromhex("06f10701")

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_7Z_MAGIC = b"7z\xbc\xaf\x27\x1c"
_RAR_MAGIC = b"Rar!\x1a\x07"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_NOT_IN_NAMES = re.compile("[\u2500-\u259f\u0370-\u03ff\u2200-\u23ff]")
"""Box drawings, Greek and mathematics, of which code page 437 is full and names of files are not."""

# Folders that mean something to a reader: an archive with one of them at its top is not wrapped in a folder.
_LAYOUT_FOLDERS = frozenset(
    {"train", "val", "valid", "test", "inference", "images", "labels", "annotations", "jpegimages", "imagesets"}
)
_DESKTOP_FILES = frozenset({"thumbs.db", "desktop.ini"})


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder.

    Raises:
        DataError: The archive is damaged, encrypted, too large when unpacked, or holds what must not be written.
        OSError: The folder cannot be written.
    """
    sink = _Sink(path, folder)
    try:
        _unpack(path, sink)
    except _broken() as error:
        text = str(error) or type(error).__name__
        raise DataError(f"{path}: not a whole zip, tar or 7z archive ({text}); fetch or pack it again") from error
    except OSError as error:
        if error.errno is not None:  # the disk, not the archive
            raise
        raise DataError(f"{path}: not a whole zip, tar or 7z archive ({error}); fetch or pack it again") from error
    except NotImplementedError as error:
        raise DataError(
            f"{path}: is compressed by a method that is not read ({error}); pack it with Deflate"
        ) from error
    except _UNUSABLE as error:
        raise DataError(f"{path}: not a usable zip, tar or 7z archive ({error}); pack it again") from error
    sink.make_links()


def unwrap(folder: Path) -> Path:
    """Return the folder below which the data of an unpacked archive lie: that inside of folders that hold only one.

    A folder that means something to a reader (``train``, ``images``) is no wrapping, nor is, below the first, one of
    nothing but images (a class) or of splits with ``_annotations.coco.json`` (a product).
    """
    top = folder
    while (inner := _only_folder(folder)) and (folder == top or _is_wrapped(inner)):
        folder = inner
    return folder


def _only_folder(folder: Path) -> Path | None:
    children = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.casefold() not in _DESKTOP_FILES]
    if len(children) != 1 or not children[0].is_dir() or children[0].name.casefold() in _LAYOUT_FOLDERS:
        return None
    return children[0]


def _is_wrapped(folder: Path) -> bool:
    if any(folder.glob("*/_annotations.coco.json")):
        return False
    return any(p.is_dir() or p.suffix.lower() not in IMAGE_SUFFIXES for p in folder.iterdir() if p.name[0] != ".")


def _refuse(path: Path, name: str, why: str) -> NoReturn:
    raise DataError(f"{path}: {name!r} {why}; nothing was unpacked; pack the folder again")


def _unpack(path: Path, sink: _Sink) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_RAR_MAGIC):
        raise DataError(f"{path}: is a RAR archive, which is not read; pack the folder as zip, tar or 7z")
    if head.startswith(_7Z_MAGIC):
        _unpack_7z(path, sink)
    elif head.startswith(_ZIP_MAGIC):
        _unpack_zip(path, sink)
    else:
        try:
            _unpack_tar(path, head, sink)
        except tarfile.ReadError:
            if sink.members or not zipfile.is_zipfile(path):
                raise
            _unpack_zip(path, sink)  # with something before it, as in an archive that unpacks itself


@functools.cache
def _broken() -> tuple[type[Exception], ...]:
    """What the libraries raise when an archive is damaged."""
    errors: list[type[Exception]] = list(_BROKEN)
    with contextlib.suppress(ImportError):
        from backports.zstd import ZstdError

        errors.append(ZstdError)
    with contextlib.suppress(ImportError):
        from py7zr.exceptions import ArchiveError

        errors.append(ArchiveError)
    return tuple(errors)


class _Link(NamedTuple):
    name: str
    target: str
    """Relative to the link's folder if it is symbolic, to the archive's top if it is hard."""
    is_hard: bool


class _Sink:
    """The folder that members are written to, within the limits."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self.limit = max(_FREE_EXPANSION, path.stat().st_size * MAX_EXPANSION)
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
            _refuse(self.path, told, "is not a plain path below the archive")
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
        # Counted as it comes: what a header declares is not what is in there.
        self._bytes += len(chunk)
        if self._bytes > self.limit:
            self.refuse_bomb()
        file.write(chunk)

    def save(self, name: str, data: IO[bytes]) -> None:
        """Write a file."""
        with self.create(name) as file:
            while chunk := data.read(_CHUNK):
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
                _refuse(self.path, name, "is a link out of the archive")
            target = self.folder / name
            if target.parent.resolve() != top / posixpath.dirname(name):
                _refuse(self.path, name, "is a link below a link")
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
                _refuse(self.path, name, "is a link to what the archive does not hold")
            if not real.is_relative_to(top):
                _refuse(self.path, name, "is a link out of the archive")

    def _refuse_twice(self, name: str) -> NoReturn:
        target = self.folder / name
        status = target.lstat()
        if stat.S_ISDIR(status.st_mode):
            _refuse(self.path, name, "is a file and a folder at once")
        same = (p for p in sorted(target.parent.iterdir()) if os.path.samestat(p.lstat(), status))
        other = posixpath.join(posixpath.dirname(name), next(same).name)
        why = "is there twice" if other == name else f"is one file with {other!r} on this disk"
        _refuse(self.path, name, why)


def _unpack_zip(path: Path, sink: _Sink) -> None:
    with zipfile.ZipFile(path) as archive:
        names = _zip_names(archive.infolist())
        for info, told in zip(archive.infolist(), names, strict=True):
            sink.count()
            told = told.replace("\\", "/")  # noqa: PLW2901 - the standard allows no other; old .NET wrote it
            kind = stat.S_IFMT(info.external_attr >> 16)
            if told.endswith("/"):
                continue
            if info.flag_bits & 1:
                _refuse_encrypted(path, told)
            name = sink.name(told)
            if kind == stat.S_IFLNK:
                if info.file_size > _MAX_LINK_BYTES:
                    _refuse(path, told, "is a link of unlikely length")
                if name is not None:
                    with archive.open(info) as data:
                        sink.link(name, data.read(_MAX_LINK_BYTES).decode())
            elif kind not in (0, stat.S_IFREG):
                _refuse(path, told, "is a device or pipe")
            elif name is not None:
                with archive.open(info) as data:
                    sink.save(name, data)


def _refuse_encrypted(path: Path, name: str) -> NoReturn:
    raise DataError(f"{path}: {name} is encrypted; pack it again without a password")


def _zip_names(infos: Collection[zipfile.ZipInfo]) -> list[str]:
    """Names as they were meant: those without the flag for UTF-8 come decoded by code page 437."""
    told = [info.filename if info.flag_bits & _UTF8_FLAG else _unicode_path(info) for info in infos]
    raw = [info.filename.encode("cp437") for info, name in zip(infos, told, strict=True) if name is None]
    encoding = _encoding(raw)
    left = iter(raw)
    return [next(left).decode(encoding) if name is None else name for name in told]


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in UTF-8 beside one that is not: Info-ZIP's extra field, with the checksum of the name it is for."""
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and field[:1] == b"\x01":
            if struct.unpack("<I", field[1:5])[0] == zlib.crc32(info.orig_filename.encode("cp437")):
                return field[5:].decode()
            return None
    return None


def _encoding(names: Collection[bytes]) -> str:
    """The encoding of names of one archive that declares none; the rule is in the module's docstring."""
    unusual = [name for name in names if not name.isascii()]
    if all(_decodes(name, "utf-8") for name in unusual):
        return "utf-8"
    if any(_NOT_IN_NAMES.search(name.decode("cp437")) for name in unusual) and all(map(_is_cp932, unusual)):
        return "cp932"
    return "cp437"


def _decodes(name: bytes, encoding: str) -> bool:
    try:
        name.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_cp932(name: bytes) -> bool:
    # One-byte katakana would make nearly any bytes valid.
    return _decodes(name, "cp932") and not re.search("[\uff61-\uff9f]", name.decode("cp932"))


class _TarStream:
    """An unpacked tar, read forward, with a limit on each read and on all.

    tarfile reads a header of any declared length at once, and one of negative length again and again.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_TAR_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        if position < self._stream.tell() - 1:
            raise tarfile.ReadError("a member that ends before it begins")
        if position > self._limit:
            raise tarfile.ReadError(f"more than {self._limit} bytes")
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _tar_opener(path: Path, head: bytes) -> Callable[[Path], Any]:
    if head.startswith(b"\x1f\x8b"):
        return gzip.open
    if head.startswith(b"BZh"):
        return bz2.open
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return lzma.open
    if not head.startswith(_ZSTD_MAGIC):
        return functools.partial(open, mode="rb")
    try:
        from backports import zstd
    except ImportError as error:
        raise DataError(f"{path}: needs backports.zstd; pip install backports.zstd, or pack it as zip") from error
    return zstd.open


def _unpack_tar(path: Path, head: bytes, sink: _Sink) -> None:
    with contextlib.closing(_tar_opener(path, head)(path)) as stream:
        # Headers come on top of the files, and need not be small.
        limited: Any = _TarStream(stream, 2 * sink.limit)
        archive = tarfile.open(fileobj=limited, mode="r:")  # noqa: SIM115 - the stream is closed, above
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
            sink.count()
            if info.isdir():
                continue
            name = sink.name(info.name)
            if info.issym() or info.islnk():
                if name is not None:
                    sink.link(name, info.linkname, is_hard=info.islnk())
            elif not info.isreg():
                _refuse(path, info.name, "is a device or pipe")
            elif name is not None:
                data = archive.extractfile(info)
                assert data is not None  # only folders and devices have none
                with data:
                    sink.save(name, data)
        # The checksum of gzip stands behind the end of the tar: unread, a flipped bit would go unseen.
        rest = 0
        while chunk := stream.read(_CHUNK):
            rest += len(chunk)
            if rest > _FREE_EXPANSION:
                raise DataError(f"{path}: goes on for more than {_FREE_EXPANSION} bytes behind its end; pack it again")


class _SippedFile(io.FileIO):
    """A 7z file that gives packed data in small pieces, and its header whole."""

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


def _unpack_7z(path: Path, sink: _Sink) -> None:
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
        _refuse_encrypted(path, "its content")
    except DecompressionBombError:
        sink.refuse_bomb()
    except _BROKEN_7Z as error:
        text = str(error) or type(error).__name__
        raise DataError(f"{path}: not a whole zip, tar or 7z archive ({text}); fetch or pack it again") from error


def _check_methods(archive: SevenZipFile, path: Path) -> None:
    for folder in {id(member.folder): member.folder for member in archive.files if member.folder}.values():
        for coder in folder.coders:
            if coder["method"] == _7Z_ENCRYPTION:
                _refuse_encrypted(path, "its content")
            if coder["method"] not in _7Z_METHODS:
                raise DataError(
                    f"{path}: is compressed by method {coder['method'].hex()}, which is not read; pack it with LZMA2"
                )


def _extract_7z(archive: SevenZipFile, path: Path, sink: _Sink) -> None:
    """Judge all names and sizes, then let py7zr push its data into files that we open: it writes none itself."""
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
        told = member.filename.replace("\\", "/")
        name = sink.name(told)
        key = str(sink.folder / PurePosixPath(member.filename))
        if key in wanted:
            _refuse(path, told, "is there twice")
        if member.is_symlink and member.uncompressed > _MAX_LINK_BYTES:
            _refuse(path, told, "is a link of unlikely length")
        if not member.is_symlink and member.st_fmt not in (None, 0, stat.S_IFREG):
            _refuse(path, told, "is a device or pipe")
        writer = LinkWriter if member.is_symlink else FileWriter
        wanted[key] = NullIO if name is None else functools.partial(writer, name)
    if declared > sink.limit:
        sink.refuse_bomb()
    with contextlib.ExitStack() as files:
        archive.extractall(sink.folder, factory=Factory())  # noqa: S202 - into the writers above
