"""Read the prediction log from its folder and from the store of its closed segments."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.monitoring.record import record_schema
from visionops.monitoring.segment_names import SEGMENT, RecordFilter
from visionops.monitoring.segments import read_lines
from visionops.monitoring.stores import is_store, open_store

__all__ = ["find_record", "read_log", "read_request_ids"]


def read_log(
    place: Path | str,
    since: datetime | None = None,
    until: datetime | None = None,
    model: str | None = None,
    version: str | None = None,
    *,
    store: str | None = None,
) -> pa.Table:
    """Return the records of all segments, including open ones, by time.

    Args:
        place: The folder, or the URI of a store, which has the closed segments.
        since: Earliest time, included; aware.
        until: Latest time, excluded; aware.
        model: Registered model; all when None.
        version: Registered version; all when None.
        store: Store of the folder's log; segments that the folder no longer has are read there.

    Returns:
        Records with the schema `record_schema`.

    Raises:
        DataError: The folder is missing, a segment cannot be read, the store cannot be reached, or a time is naive.
    """
    wanted = RecordFilter(since, until, model, version)
    tables = {}
    if is_store(place):
        store = str(place)
    elif store is None or Path(place).exists():
        expression = wanted.expression()
        found = {stem: _read_segment(Path(place, stem), expression) for stem in _stems(Path(place))}
        tables = {stem: table for stem, table in found.items() if table is not None}
    shipped = [open_store(store).read(wanted, tables.keys())] if store else []
    return pa.concat_tables([record_schema().empty_table(), *tables.values(), *shipped]).sort_by("time")


def read_request_ids(folder: Path, prefix: str) -> set[str]:
    """Return the request ids that begin with ``prefix``.

    Raises:
        DataError: See `read_log`.
    """
    wanted = pc.starts_with(pc.field("request_id"), prefix)
    tables = [_read_segment(folder / stem, wanted, ["request_id"]) for stem in _stems(folder)]
    return {name for table in tables if table is not None for name in table["request_id"].to_pylist()}


def find_record(folder: Path, request_id: str) -> dict[str, Any] | None:
    """Return the newest record of a request, without its embedding; None where the log has none.

    Raises:
        DataError: See `read_log`.
    """
    wanted = pc.field("request_id") == request_id
    columns = [name for name in record_schema().names if name != "embedding"]
    for stem in reversed(_stems(folder)):
        # Read only the ids first; other columns only of segments with the request.
        ids = _read_segment(folder / stem, wanted, ["request_id"])
        if ids is not None and len(ids) and (found := _read_segment(folder / stem, wanted, columns)) is not None:
            newest: dict[str, Any] = found.sort_by("time").to_pylist()[-1]
            return newest
    return None


def _stems(folder: Path) -> list[str]:
    """Return all stems. Listed twice, because one listing may miss a segment that is being closed, but not both."""
    try:
        names = [path.name for _ in range(2) for path in folder.iterdir()]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({describe_os_error(error)}); set the folder of a prediction log"
        ) from error
    return sorted({name.partition(".")[0] for name in names if SEGMENT.fullmatch(name)})


def _read_segment(stem: Path, wanted: pc.Expression, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Return the records of a segment; None where it was removed meanwhile."""
    schema = record_schema()
    columns = schema.names if columns is None else list(columns)
    closed, lines = stem.with_suffix(".parquet"), stem.with_suffix(".jsonl")
    try:
        # Both exist where the process that closed the segment was killed before it removed the lines.
        for path in (closed, lines, closed):
            with contextlib.suppress(FileNotFoundError):
                if path == lines:
                    return read_lines(path.read_bytes()).filter(wanted).select(columns)
                return pq.read_table(path, columns=columns, schema=schema, filters=wanted, partitioning=None)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); remove it") from error
    return None
