"""Read a log segment by segment: for who takes each record once, and goes on where they were.

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
    """Records of a segment. A record has the same place in it for ever: more may follow, none comes between."""

    records: pa.Table
    is_closed: bool
    """No more will follow."""


class LogSource:
    """A folder of segments, a store of them, or both: what the folder does not have (any more) is read in the store.

    Args:
        place: Folder of the segments, which need not be there; or the URI of a store.
        store: Of the folder's log.
        kind: Which log.

    Raises:
        DataError: The store's name is none.
    """

    def __init__(self, place: Path | str, store: str | None, kind: LogKind) -> None:
        self._kind = kind
        self._folder = None if is_store(place) else Path(place)
        uri = str(place) if is_store(place) else store
        self._store = open_store(uri, kind) if uri else None

    def stems(self) -> list[str]:
        """Return the names of all segments, without suffix, the oldest first.

        Raises:
            DataError: The folder or the store cannot be read.
        """
        found: set[str] = set(self._store.stems()) if self._store else set()
        # Listed twice: a segment that is closed meanwhile may be missed by one listing, not by both.
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
        """Return the bytes of a segment in the folder; 0 where it is not there."""
        if self._folder is None:
            return 0
        return sum(segment_size(self._folder / f"{stem}{suffix}") for suffix in (".parquet", ".jsonl"))

    def read(self, stem: str) -> Segment | None:
        """Return the records of a segment so far; None where it was removed meanwhile.

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
        """Note beside a closed segment that the records of ``model`` were taken; where it may be written."""
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
            # Where both are there, the process that closed it was killed before it removed the lines.
            for path in (closed, lines, closed):
                with contextlib.suppress(FileNotFoundError):
                    if path == lines:
                        return Segment(read_lines(path.read_bytes(), schema), is_closed=False)
                    return Segment(pq.read_table(path, schema=schema, partitioning=None), is_closed=True)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: cannot be read ({reason}); remove it") from error
        return None
