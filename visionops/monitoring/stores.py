"""Open stores of logs beside the folder: a prefix of an object store, or a PostgreSQL database.

    s3://bucket/prefix               an object for each closed segment, of its name
    postgresql://user@host/database  a row for each record in `visionops_predictions`; its segment and place are its key

A segment's name is its identity, so sending it twice stores it once. Credentials come from the environment:
``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``; ``PGPASSWORD`` or ``PGPASSFILE``.

The images that records name go with their segment, by their SHA-256: to ``<segment>.files/``, or to
`visionops_predictions_files`. The feedback log goes to the prefix ``feedback`` below, or to tables of its own.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from visionops.addresses import check_store
from visionops.errors import DataError
from visionops.monitoring.segment_names import RecordFilter

# Imported here, so that a server without a store waits for none of them, and one without a log not for pyarrow.
if TYPE_CHECKING:
    import pyarrow as pa

    from visionops.monitoring.kinds import LogKind
    from visionops.monitoring.segment_files import SegmentFiles

__all__ = ["LogStore", "is_store", "open_store"]


class LogStore(Protocol):
    """Store of closed segments. All methods raise a one-line `DataError` where the store cannot be reached."""

    def ship(self, segment: Path, files: SegmentFiles) -> int:
        """Store a closed segment and its files: completely or not at all, and once even if repeated.

        No reader sees the segment before all of its files are stored.

        Returns:
            Number of files that are missing on this machine; the segment is stored without them.
        """

    def read(self, wanted: RecordFilter, without: Collection[str]) -> pa.Table:
        """Return the records that match the filter, in the log's schema, except those of the segments ``without``."""

    def stems(self) -> list[str]:
        """Return the names of all segments, without suffix, oldest first."""

    def read_segment(self, stem: str) -> pa.Table | None:
        """Return the records of one segment in order, with the schema of the log; None where it no longer exists."""

    def read_file(self, stem: str, name: str) -> bytes | None:
        """Return a file of a segment; None where it does not exist."""

    def prune(self, oldest: datetime) -> None:
        """Remove the records before ``oldest``, and the files of segments without records.

        Does nothing where the store has its own lifecycle rule.
        """


def is_store(place: object) -> bool:
    """Return whether ``place`` is the URI of a store and not a folder."""
    return isinstance(place, str) and "://" in place


def open_store(uri: str, kind: LogKind | None = None) -> LogStore:
    """Return the store with this URI; it does not connect yet.

    Args:
        kind: Kind of log; the prediction log when None.

    Raises:
        DataError: The URI is not that of a store.
    """
    try:
        check_store(uri)
    except ValueError as error:
        raise DataError(f"prediction log store: {error}") from error
    from visionops.monitoring.kinds import PREDICTIONS
    from visionops.monitoring.store_postgres import PostgresLogs
    from visionops.monitoring.store_s3 import S3Logs

    return S3Logs(uri, kind or PREDICTIONS) if uri.startswith("s3:") else PostgresLogs(uri, kind or PREDICTIONS)
