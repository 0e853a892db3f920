"""Parse the names of segments, and filter which of their records are read."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from visionops.errors import DataError

# Imported here, so that a server without a log does not wait for pyarrow.
if TYPE_CHECKING:
    import pyarrow.compute as pc

__all__ = ["SEGMENT", "RecordFilter", "segment_begin"]

SEGMENT = re.compile(r"\d{8}T\d{12}Z-\d+-[0-9a-f]{8}\.(jsonl|parquet)")
"""Name of a file of the log."""
_NAME_TIME = "%Y%m%dT%H%M%S%f"


@dataclasses.dataclass(frozen=True, slots=True)
class RecordFilter:
    """Filter of records."""

    since: datetime | None = None
    """Earliest time, included; aware."""
    until: datetime | None = None
    """Latest time, excluded; aware."""
    model: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        for name, when in (("since", self.since), ("until", self.until)):
            if when is not None and when.utcoffset() is None:
                raise DataError(f"{name}: {when.isoformat()} has no time zone; add one, as in {when.isoformat()}+00:00")

    def expression(self) -> pc.Expression:
        """Return the filter as an expression for a table of `record_schema`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted, when = pc.scalar(True), pa.timestamp("us", tz="UTC")
        if self.since is not None:
            wanted &= pc.field("time") >= pa.scalar(self.since, when)
        if self.until is not None:
            wanted &= pc.field("time") < pa.scalar(self.until, when)
        for name, value in (("model", self.model), ("version", self.version)):
            if value is not None:
                wanted &= pc.field(name) == value
        return wanted


def segment_begin(stem: str) -> datetime:
    """Return the time when the segment of this name was started."""
    return datetime.strptime(stem.partition("Z")[0], _NAME_TIME).replace(tzinfo=UTC)
