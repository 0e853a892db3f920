"""Read the prediction log, of a folder and of the store that its closed segments go to."""

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
from visionops.monitoring.segment_names import SEGMENT, Wanted
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
    """The records of all segments, open ones included, by time.

    Args:
        place: The folder; or the URI of a store, which has the closed segments.
        since: From this time on; aware.
        until: Before this time; aware.
        model: Only of this registered model.
        version: Only of this version.
        store: Of the folder's log: what the folder does not have (any more) is read there.

    Returns:
        With the schema `record_schema`.

    Raises:
        DataError: There is no such folder, a segment cannot be read, the store cannot be reached, or a time is naive.
    """
    wanted = Wanted(since, until, model, version)
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
    """Those that begin with ``prefix``.

    Raises:
        DataError: As `read_log`.
    """
    wanted = pc.starts_with(pc.field("request_id"), prefix)
    tables = [_read_segment(folder / stem, wanted, ["request_id"]) for stem in _stems(folder)]
    return {name for table in tables if table is not None for name in table["request_id"].to_pylist()}


def find_record(folder: Path, request_id: str) -> dict[str, Any] | None:
    """Return the newest record of a request, but for its embedding; None where the log has none.

    Raises:
        DataError: As `read_log`.
    """
    wanted = pc.field("request_id") == request_id
    columns = [name for name in record_schema().names if name != "embedding"]
    for stem in reversed(_stems(folder)):
        # The ids first: of a segment without the request, nothing else is read.
        ids = _read_segment(folder / stem, wanted, ["request_id"])
        if ids is not None and len(ids) and (found := _read_segment(folder / stem, wanted, columns)) is not None:
            newest: dict[str, Any] = found.sort_by("time").to_pylist()[-1]
            return newest
    return None


def _stems(folder: Path) -> list[str]:
    """Of all segments. Listed twice: a segment that is closed meanwhile may be missed by one listing, not by both."""
    try:
        names = [path.name for _ in range(2) for path in folder.iterdir()]
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be listed ({describe_os_error(error)}); give the folder of a prediction log"
        ) from error
    return sorted({name.partition(".")[0] for name in names if SEGMENT.fullmatch(name)})


def _read_segment(stem: Path, wanted: pc.Expression, columns: Sequence[str] | None = None) -> pa.Table | None:
    """None: it was removed meanwhile."""
    schema = record_schema()
    columns = schema.names if columns is None else list(columns)
    closed, lines = stem.with_suffix(".parquet"), stem.with_suffix(".jsonl")
    try:
        # Where both are there, the process that closed it was killed before it removed the lines.
        for path in (closed, lines, closed):
            with contextlib.suppress(FileNotFoundError):
                if path == lines:
                    return read_lines(path.read_bytes()).filter(wanted).select(columns)
                return pq.read_table(path, columns=columns, schema=schema, filters=wanted, partitioning=None)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); remove it") from error
    return None
