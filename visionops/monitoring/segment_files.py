"""Read the files that belong to a closed segment, named by their SHA-256, to send them to a store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from visionops.data.files import safe_name
from visionops.monitoring.kinds import FILES, LogKind

__all__ = ["SegmentFiles"]


class SegmentFiles:
    """Files of one segment. Safe to use from several threads.

    Args:
        places: Name in the store, which is the SHA-256 of the content, to the file on this machine.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = dict(sorted(places.items()))

    @classmethod
    def find(cls, segment: Path, kind: LogKind) -> SegmentFiles:
        """Return the files of a closed segment: those beside it, or those that its records name below its folder.

        Raises:
            OSError, ValueError: The segment cannot be read.
        """
        if kind.has_files:
            beside = segment.with_suffix(FILES)
            files = beside.iterdir() if beside.is_dir() else ()
            return cls({file.name: file for file in files if not file.name.startswith(".")})
        columns = pq.read_table(segment, columns=["image", "image_sha256"], schema=kind.schema(), partitioning=None)
        named = zip(*(columns[name].to_pylist() for name in ("image", "image_sha256")), strict=True)
        # A record may come from another program, and must not refer to files outside the log.
        return cls({digest: segment.parent / name for name, digest in named if name and digest and _is_below(name)})

    def names(self) -> list[str]:
        """Return the names of all files in order, including missing ones."""
        return list(self._places)

    def missing(self) -> list[str]:
        """Return the names of missing files."""
        return [name for name, place in self._places.items() if not place.is_file()]

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; 0 where it is missing."""
        with contextlib.suppress(OSError):
            return self._places[name].stat().st_size
        return 0

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None where it is missing or its content does not match its digest."""
        with contextlib.suppress(OSError):
            data = self._places[name].read_bytes()
            return data if hashlib.sha256(data).hexdigest() == name else None
        return None


def _is_below(name: str) -> bool:
    return safe_name(name) == name
