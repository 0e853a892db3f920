"""Stores of logs beside the folder: a prefix of an object store, or a PostgreSQL database.

    s3://bucket/prefix               an object for each closed segment, of its name
    postgresql://user@host/database  a row for each record in `visionops_predictions`; its segment and place are its key

A segment's name is its identity: one that is brought twice stands there once. Credentials come from the environment:
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
from visionops.monitoring.segment_names import Wanted

# Not above: a server without a store must not wait for any of them, nor one without a log for pyarrow.
if TYPE_CHECKING:
    import pyarrow as pa

    from visionops.monitoring.kinds import LogKind
    from visionops.monitoring.segment_files import SegmentFiles

__all__ = ["LogStore", "is_store", "open_store"]


class LogStore(Protocol):
    """Where closed segments go. All of it raises `DataError`, in one line, where the store cannot be reached."""

    def ship(self, segment: Path, files: SegmentFiles) -> int:
        """Bring a closed segment and its files: whole or not at all, and once however often it is brought.

        No reader sees the segment before all of its files are there.

        Returns:
            How many of the files are missing on this machine; the segment is brought without them.
        """

    def read(self, wanted: Wanted, without: Collection[str]) -> pa.Table:
        """The records that are wanted, with the schema of the log, but for those of the segments ``without``."""

    def stems(self) -> list[str]:
        """Return the names of all segments, without suffix, the oldest first."""

    def read_segment(self, stem: str) -> pa.Table | None:
        """Return the records of one segment in their order, with the schema of the log; None where it is gone."""

    def read_file(self, stem: str, name: str) -> bytes | None:
        """Return a file of a segment; None where there is none."""

    def prune(self, oldest: datetime) -> None:
        """Remove the records before ``oldest``, and the files of segments without records.

        Nothing happens where the store does so by a rule of its own.
        """


def is_store(place: object) -> bool:
    """Whether ``place`` names a store and not a folder."""
    return isinstance(place, str) and "://" in place


def open_store(uri: str, kind: LogKind | None = None) -> LogStore:
    """The store of that name; nothing is asked of it yet.

    Args:
        kind: Which log; that of predictions when None.

    Raises:
        DataError: It names none.
    """
    try:
        check_store(uri)
    except ValueError as error:
        raise DataError(f"prediction log store: {error}") from error
    from visionops.monitoring.kinds import PREDICTIONS
    from visionops.monitoring.store_postgres import PostgresLogs
    from visionops.monitoring.store_s3 import S3Logs

    return S3Logs(uri, kind or PREDICTIONS) if uri.startswith("s3:") else PostgresLogs(uri, kind or PREDICTIONS)
