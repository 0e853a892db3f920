"""Segments of a log: JSON lines while a process writes one, Parquet after it is closed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from pydantic_core import to_json

from visionops.monitoring.record import record_schema

__all__ = [
    "SEGMENT_SECONDS",
    "OpenSegment",
    "close_segment",
    "read_lines",
    "record_line",
    "segment_rows",
    "segment_size",
    "wire_line",
]

SEGMENT_SECONDS = 3600.0
"""Seconds after which an open segment is closed."""
_NAME_TIME = "%Y%m%dT%H%M%S%f"


class OpenSegment:
    """A file that lines are appended to, locked while it is open.

    Args:
        folder: Folder of the segments, created if missing.
        seconds: Seconds after which it should be closed; `SEGMENT_SECONDS` when None.

    Raises:
        OSError: It cannot be created.
    """

    def __init__(self, folder: Path, seconds: float | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        self.path = folder / f"{now.strftime(_NAME_TIME)}Z-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self.size = 0
        self.is_torn = False
        self._end = time.monotonic() + (SEGMENT_SECONDS if seconds is None else seconds)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        try:
            # A tidier may have removed the file as empty before it was locked; see `is_gone`.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError:
            os.close(self._fd)
            raise

    @property
    def seconds_left(self) -> float:
        """Return the seconds until it should be closed."""
        return max(0.0, self._end - time.monotonic())

    def is_due(self, segment_bytes: int) -> bool:
        """Return whether it should be closed now."""
        return self.size >= segment_bytes or (self.size > 0 and self.seconds_left == 0)

    def is_gone(self) -> bool:
        """Return whether the file was removed."""
        return os.fstat(self._fd).st_nlink == 0

    def write(self, data: bytes) -> None:
        """Append all of ``data``, or nothing if it cannot be written completely.

        Raises:
            OSError: It cannot be written.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                self.is_torn = True  # only its last line, if nothing follows
            raise
        self.size += len(data)

    def flush(self) -> None:
        """Wait until written data survives a loss of power.

        Raises:
            OSError: It cannot be written.
        """
        os.fsync(self._fd)

    def close(self) -> None:
        """Release the lock, and leave closing to the tidier."""
        with contextlib.suppress(OSError):
            if not self.size:
                self.path.unlink(missing_ok=True)
        os.close(self._fd)


def record_line(record: Mapping[str, Any]) -> bytes:
    """Write a record as a line of an open segment.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: It is not a record.
    """
    when = record["time"].astimezone(UTC).replace(tzinfo=None)
    embedding = np.asarray(record["embedding"], dtype="<f4").tobytes()
    return wire_line({**record, "time": when.isoformat(" "), "embedding": base64.b64encode(embedding).decode()})


def wire_line(wire: Mapping[str, Any]) -> bytes:
    """Write plain values as a line of an open segment; times as ``2026-03-02 06:14:09.123456``, UTC.

    Raises:
        ValueError: A value cannot be written as JSON.
    """
    return to_json(wire, inf_nan_mode="null") + b"\n"


def close_segment(path: Path, schema: pa.Schema | None = None) -> None:
    """Convert a segment without a writer to Parquet.

    Args:
        schema: Schema of the records; `record_schema` when None.

    Raises:
        OSError: It cannot be written. Nothing is lost, because the lines stay.
    """
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink == 0:
            return  # another process closed it after this one opened it
        target = path.with_suffix(".parquet")
        table = None if target.exists() else read_lines(file.read(), schema)
        if table is not None and table.num_rows:
            temporary = target.with_name(f".{target.name}")
            with temporary.open("wb") as out:
                pq.write_table(table, out, compression="zstd")
                out.flush()
                os.fsync(out.fileno())  # the lines are removed next, so sync first
            temporary.replace(target)
        path.unlink()


def read_lines(data: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """Read the records of some lines; incomplete and invalid lines are left out.

    Args:
        schema: Schema of the records; `record_schema` when None.
    """
    schema = record_schema() if schema is None else schema
    data = data[: data.rfind(b"\n") + 1]
    if not data:
        return schema.empty_table()
    # Arrow's own reader does not block the threads of requests, unlike Python code.
    reading = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
    parsing = pj.ParseOptions(explicit_schema=_wire(schema), unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(pa.BufferReader(data), read_options=reading, parse_options=parsing)
        if (index := table.schema.get_field_index("embedding")) >= 0:
            table = table.set_column(index, "embedding", _embeddings(table["embedding"].to_pylist()))
        return table.select(schema.names).cast(schema)
    except ValueError:  # nor does Arrow's writer
        middle = data.find(b"\n", len(data) // 2 - 1) + 1
        if middle == len(data):
            middle = data.rfind(b"\n", 0, len(data) - 1) + 1
        if middle == 0:
            return schema.empty_table()
        return pa.concat_tables([read_lines(data[:middle], schema), read_lines(data[middle:], schema)])


def _wire(schema: pa.Schema) -> pa.Schema:
    """Return the schema of a line: the embedding is base64, which is shorter, faster and exact."""
    return pa.schema([field.with_type(pa.string()) if field.name == "embedding" else field for field in schema])


def _embeddings(texts: Sequence[str | None]) -> pa.Array:
    parts = [np.frombuffer(base64.b64decode(text or ""), "<f4") for text in texts]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    values = np.concatenate([np.empty(0, np.float32), *parts])
    # Built from buffers, because `pa.array` would import pandas, if installed, into a server that does not need it.
    lists = pa.ListArray.from_arrays(
        pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)]),
        pa.Array.from_buffers(pa.float32(), len(values), [None, pa.py_buffer(values)]),
    )
    return lists.cast(pa.list_(pa.float32()))


def segment_size(path: Path) -> int:
    """Return the size of a file in bytes; 0 when it was removed."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def segment_rows(path: Path) -> int:
    """Return the number of records of a closed segment; 0 when it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        return int(pq.read_metadata(path).num_rows)
    return 0
