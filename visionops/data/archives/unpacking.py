"""Unpack an archive of any supported format."""

from __future__ import annotations

import contextlib
import functools
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

from visionops.data.archives.seven_zip import unpack_7z
from visionops.data.archives.sink import Sink
from visionops.data.archives.tar_files import unpack_tar
from visionops.data.archives.zip_files import unpack_zip
from visionops.errors import DataError

__all__ = ["unpack"]

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
_UNUSABLE = (ValueError, UnicodeError, RuntimeError)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_7Z_MAGIC = b"7z\xbc\xaf\x27\x1c"
_RAR_MAGIC = b"Rar!\x1a\x07"


def unpack(path: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder.

    Raises:
        DataError: The archive is damaged, encrypted, too large when unpacked, or has a forbidden member.
        OSError: The folder cannot be written.
    """
    sink = Sink(path, folder)
    try:
        _unpack(path, sink)
    except _broken() as error:
        text = str(error) or type(error).__name__
        raise DataError(f"{path}: not a whole zip, tar or 7z archive ({text}); fetch or pack it again") from error
    except OSError as error:
        if error.errno is not None:  # an error of the disk, not of the archive
            raise
        raise DataError(f"{path}: not a whole zip, tar or 7z archive ({error}); fetch or pack it again") from error
    except NotImplementedError as error:
        raise DataError(
            f"{path}: is compressed by a method that is not read ({error}); pack it with Deflate"
        ) from error
    except _UNUSABLE as error:
        raise DataError(f"{path}: not a usable zip, tar or 7z archive ({error}); pack it again") from error
    sink.make_links()


def _unpack(path: Path, sink: Sink) -> None:
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(_RAR_MAGIC):
        raise DataError(f"{path}: is a RAR archive, which is not read; pack the folder as zip, tar or 7z")
    if head.startswith(_7Z_MAGIC):
        unpack_7z(path, sink)
    elif head.startswith(_ZIP_MAGIC):
        unpack_zip(path, sink)
    else:
        try:
            unpack_tar(path, head, sink)
        except tarfile.ReadError:
            if sink.members or not zipfile.is_zipfile(path):
                raise
            unpack_zip(path, sink)  # with data before it, such as a self-extracting archive


@functools.cache
def _broken() -> tuple[type[Exception], ...]:
    """Return the errors that the libraries raise for a damaged archive."""
    errors: list[type[Exception]] = list(_BROKEN)
    with contextlib.suppress(ImportError):
        from backports.zstd import ZstdError

        errors.append(ZstdError)
    with contextlib.suppress(ImportError):
        from py7zr.exceptions import ArchiveError

        errors.append(ArchiveError)
    return tuple(errors)
