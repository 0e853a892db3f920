"""Unpack tar archives, plain or compressed."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from visionops.data.archives.sink import CHUNK, FREE_EXPANSION, Sink, refuse
from visionops.errors import DataError

__all__ = ["unpack_tar"]

_MAX_TAR_HEADER = 1 << 24
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def unpack_tar(path: Path, head: bytes, sink: Sink) -> None:
    """Unpack a tar archive, which begins with ``head``, into ``sink``; raise as `unpack` does."""
    with contextlib.closing(_tar_opener(path, head)(path)) as stream:
        # Headers count in addition to the files, and may be large.
        limited: Any = _TarStream(stream, 2 * sink.limit)
        archive = tarfile.open(fileobj=limited, mode="r:")  # noqa: SIM115 - the stream is closed, above
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # otherwise it would keep all of them
            sink.count()
            if info.isdir():
                continue
            name = sink.name(info.name)
            if info.issym() or info.islnk():
                if name is not None:
                    sink.link(name, info.linkname, is_hard=info.islnk())
            elif not info.isreg():
                refuse(path, info.name, "is a device or pipe")
            elif name is not None:
                data = archive.extractfile(info)
                assert data is not None  # only folders and devices have none
                with data:
                    sink.save(name, data)
        # The checksum of gzip is after the end of the tar: it must be read to notice a flipped bit.
        rest = 0
        while chunk := stream.read(CHUNK):
            rest += len(chunk)
            if rest > FREE_EXPANSION:
                raise DataError(f"{path}: has more than {FREE_EXPANSION} bytes after its end; pack it again")


class _TarStream:
    """An unpacked tar, read forward, with a limit on each read and on the total.

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
