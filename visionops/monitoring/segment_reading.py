"""Read a log segment by segment, for readers that take each record once and resume later.

>>> source = LogSource(folder, store, FEEDBACK)
>>> for stem in source.stems():
...     segment = source.read(stem)
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.monitoring.kinds import FILES, LogKind
from visionops.monitoring.segment_names import SEGMENT
from visionops.monitoring.segments import read_lines, segment_size
from visionops.monitoring.stores import is_store, open_store
from visionops.monitoring.tidying import CONSUMED

__all__ = ["LogSource", "Segment"]


@dataclasses.dataclass(frozen=True, slots=True)
class Segment:
    """Records of a segment. A record never changes its place: more may be appended, none inserted."""

    records: pa.Table
    is_closed: bool
    """Whether the segment gets no more records."""


class LogSource:
    """Source of a log: a folder of segments, a store, or both; what the folder no longer has is read from the store.

    Args:
        place: Folder of the segments, which may be missing, or the URI of a store.
        store: Store of the folder's log.
        kind: Kind of log.

    Raises:
        DataError: The URI is not that of a store.
    """

    def __init__(self, place: Path | str, store: str | None, kind: LogKind) -> None:
        self._kind = kind
        self._folder = None if is_store(place) else Path(place)
        uri = str(place) if is_store(place) else store
        self._store = open_store(uri, kind) if uri else None

    def stems(self) -> list[str]:
        """Return the names of all segments, without suffix, oldest first.

        Raises:
            DataError: The folder or the store cannot be read.
        """
        found: set[str] = set(self._store.stems()) if self._store else set()
        # Listed twice, because one listing may miss a segment that is being closed, but not both.
        for _ in range(2):
            try:
                names = [path.name for path in self._folder.iterdir()] if self._folder else []
            except FileNotFoundError:
                names = []
            except OSError as error:
                raise DataError(f"{self._folder}: cannot be listed ({describe_os_error(error)})") from error
            found |= {name.partition(".")[0] for name in names if SEGMENT.fullmatch(name)}
        return sorted(found)

    def size(self, stem: str) -> int:
        """Return the size of a segment in the folder in bytes; 0 where it is missing."""
        if self._folder is None:
            return 0
        return sum(segment_size(self._folder / f"{stem}{suffix}") for suffix in (".parquet", ".jsonl"))

    def read(self, stem: str) -> Segment | None:
        """Return the current records of a segment; None where it was removed meanwhile.

        Raises:
            DataError: It cannot be read.
        """
        if self._folder is not None and (found := self._read_local(self._folder / stem)) is not None:
            return found
        records = self._store.read_segment(stem) if self._store else None
        return None if records is None else Segment(records, is_closed=True)

    def read_file(self, stem: str, name: str) -> bytes | None:
        """Return a file of a segment; None where there is none.

        Raises:
            DataError: It cannot be read.
        """
        if self._folder is not None:
            path = self._folder / f"{stem}{FILES}" / name
            try:
                return path.read_bytes()
            except FileNotFoundError:
                pass
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({describe_os_error(error)})") from error
        return self._store.read_file(stem, name) if self._store else None

    def consumed(self, stem: str, model: str) -> None:
        """Mark a closed segment as taken for ``model``, where its folder is writable."""
        if self._folder is None or not (self._folder / f"{stem}.parquet").exists():
            return
        mark = self._folder / f"{stem}{CONSUMED}"
        with contextlib.suppress(OSError):
            taken = mark.read_text(encoding="utf-8").splitlines() if mark.exists() else []
            if model not in taken:
                with mark.open("a", encoding="utf-8") as file:
                    file.write(f"{model}\n")

    def _read_local(self, stem: Path) -> Segment | None:
        schema = self._kind.schema()
        closed, lines = stem.with_suffix(".parquet"), stem.with_suffix(".jsonl")
        path = closed
        try:
            # Both exist where the process that closed the segment was killed before it removed the lines.
            for path in (closed, lines, closed):
                with contextlib.suppress(FileNotFoundError):
                    if path == lines:
                        return Segment(read_lines(path.read_bytes(), schema), is_closed=False)
                    return Segment(pq.read_table(path, schema=schema, partitioning=None), is_closed=True)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: cannot be read ({reason}); remove it") from error
        return None
