"""Unpack zip archives."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from visionops.data.archives.sink import MAX_LINK_BYTES, Sink, refuse, refuse_encrypted
from visionops.data.archives.zip_names import zip_names

__all__ = ["unpack_zip"]


def unpack_zip(path: Path, sink: Sink) -> None:
    """Unpack a zip archive into ``sink``; raise as `unpack` does."""
    with zipfile.ZipFile(path) as archive:
        names = zip_names(archive.infolist())
        for info, member in zip(archive.infolist(), names, strict=True):
            sink.count()
            member = member.replace("\\", "/")  # noqa: PLW2901 - the standard allows only "/"; old .NET wrote "\"
            kind = stat.S_IFMT(info.external_attr >> 16)
            if member.endswith("/"):
                continue
            if info.flag_bits & 1:
                refuse_encrypted(path, member)
            name = sink.name(member)
            if kind == stat.S_IFLNK:
                if info.file_size > MAX_LINK_BYTES:
                    refuse(path, member, "is a link that is too long")
                if name is not None:
                    with archive.open(info) as data:
                        sink.link(name, data.read(MAX_LINK_BYTES).decode())
            elif kind not in (0, stat.S_IFREG):
                refuse(path, member, "is a device or pipe")
            elif name is not None:
                with archive.open(info) as data:
                    sink.save(name, data)
