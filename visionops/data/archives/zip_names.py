"""Decode the names in a zip archive, whatever program wrote them."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Collection

__all__ = ["zip_names"]

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_NOT_IN_NAMES = re.compile("[\u2500-\u259f\u0370-\u03ff\u2200-\u23ff]")
"""Box drawings, Greek and mathematics, which are common in code page 437 but not in file names."""


def zip_names(infos: Collection[zipfile.ZipInfo]) -> list[str]:
    """Return the decoded names; zipfile decodes names without the flag for UTF-8 as code page 437."""
    declared = [info.filename if info.flag_bits & _UTF8_FLAG else _unicode_path(info) for info in infos]
    raw = [info.filename.encode("cp437") for info, name in zip(infos, declared, strict=True) if name is None]
    encoding = _encoding(raw)
    left = iter(raw)
    return [next(left).decode(encoding) if name is None else name for name in declared]


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """Return the UTF-8 name in Info-ZIP's extra field, if the checksum of its original name matches; else None."""
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
    """Return the encoding of names in an archive that declares none; the package's docstring has the rule."""
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
    # One-byte katakana would make almost any bytes valid.
    return _decodes(name, "cp932") and not re.search("[\uff61-\uff9f]", name.decode("cp932"))
