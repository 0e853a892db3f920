"""The prediction log: what was asked of a model and what it said, one record for each prediction.

A record goes at once, as a line of JSON, into the open segment of its process. A segment that is large or an hour old
is closed into Parquet. What the kernel has been given outlives the process, so a killed one loses no record that was
acknowledged; a machine that loses power may lose the last seconds.

    20260302T061409123456Z-4711-9f2c1e5a.jsonl      open: the process 4711 holds a lock on it
    20260302T051408001522Z-4711-03ab77d1.parquet    closed

Any number of processes may write into one folder, and any may read it meanwhile.

>>> log = PredictionLog(folder)
>>> log.append({"time": datetime.now(UTC), "request_id": "a1", "model": "steel", "version": "3", **record})
True
>>> log.close()
>>> read_log(folder, model="steel").num_rows
1
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import fcntl
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq
from pydantic_core import to_json

from visionops.data.files import describe_os_error
from visionops.errors import DataError
from visionops.monitoring.record import record_schema
from visionops.monitoring.shipping import MARK, Shipper
from visionops.monitoring.stores import SEGMENT, Wanted, is_store, open_store, segment_begin

__all__ = ["OUTCOMES", "PredictionLog", "read_log", "read_request_ids"]

OUTCOMES = ("written", "overflow", "disk_full", "unwritable", "invalid", "closed", "unshipped")
"""What becomes of a record: it is written, or dropped because too many waited, the disk was full, the folder could not
be written, the record was none, or the log was closed. Unshipped: it was written, and went before the store had it."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NAME_TIME = "%Y%m%dT%H%M%S%f"
_SEGMENT_SECONDS = 3600.0
_CLOSING_SECONDS = 10.0


@dataclasses.dataclass(slots=True, eq=False)
class _Waiting:
    """A line on its way to the disk."""

    line: bytes
    done: threading.Lock
    """Held until its fate is known: waiting for a lock costs a third of waiting for an event."""
    is_written: bool = False


class PredictionLog:
    """Writes the log of one process. Safe to call from several threads; raises nothing once it is made.

    Args:
        folder: Of the segments; made when it is not there.
        max_bytes: Of all segments together; the oldest closed ones go.
        max_age_days: Of a segment.
        segment_bytes: From this size on a segment is closed; a quarter of ``max_bytes`` at most.
        capacity: Records that may wait to be written; more are dropped.
        patience: Seconds that `append` waits for its record to be written. When one has waited in vain, none waits
            until the disk is quick again.
        on_outcome: Called with each outcome and for how many records, from several threads.
        store: Where closed segments go, too; see `visionops.monitoring.stores`. What it does not have stays here beyond
            its age, though not beyond ``max_bytes``.

    Raises:
        DataError: ``store`` names none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = 1_000_000_000,
        max_age_days: float = 30,
        segment_bytes: int = 16_000_000,
        capacity: int = 4096,
        patience: float = 0.25,
        on_outcome: Callable[[str, int], None] | None = None,
        store: str | None = None,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age = timedelta(days=max_age_days)
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._capacity = capacity
        self._patience = patience
        self._on_outcome = on_outcome
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._counts = dict.fromkeys(OUTCOMES, 0)
        self._counting = threading.Lock()
        self._open: _OpenSegment | None = None
        self._is_slow = False
        self._is_closed = False
        self._write_problem = ""
        self._tidy_problem = ""
        self._shipper = Shipper(folder, store, self._max_age) if store else None
        self._tidying: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._tidying.put(True)
        try:
            self._open = _OpenSegment(folder)  # so that a folder that cannot be written is known before it is needed
        except OSError as error:
            self._write_problem = self._describe(error)
        self._writer = threading.Thread(target=self._write_all, name="prediction-log", daemon=True)
        self._tidier = threading.Thread(target=self._tidy_all, name="prediction-log-tidy", daemon=True)
        self._writer.start()
        self._tidier.start()

    def append(self, record: Mapping[str, Any]) -> bool:
        """Write one record, and wait for it, though not long.

        Args:
            record: By the columns of `record_schema`; ``time`` is an aware datetime, ``embedding`` a sequence or an
                array. A number that is not finite is kept as missing.

        Returns:
            Whether a killed process would leave it behind. Where this is False, `counts` and `problem` say why.
        """
        try:
            line = _line(record)
        except (ValueError, TypeError, KeyError, AttributeError):
            self._count("invalid")
            return False
        if self._is_closed or self._queue.qsize() >= self._capacity:
            self._count("closed" if self._is_closed else "overflow")
            return False
        waiting = _Waiting(line, threading.Lock())
        waiting.done.acquire()
        self._queue.put(waiting)
        if self._is_slow:
            return False
        if not waiting.done.acquire(timeout=self._patience):
            self._is_slow = waiting.done.locked()
        return waiting.is_written

    @property
    def folder(self) -> Path:
        """Of the segments."""
        return self._folder

    @property
    def counts(self) -> dict[str, int]:
        """How many records had each of the `OUTCOMES`."""
        with self._counting:
            return dict(self._counts)

    @property
    def problem(self) -> str:
        """What is wrong now, in one line; "" when nothing is."""
        if self._write_problem or not self._is_slow:
            return self._write_problem or self._tidy_problem or (self._shipper.problem if self._shipper else "")
        return f"{self._folder}: a write takes over {self._patience:g} s, answers do not wait for it; use a faster disk"

    @property
    def unshipped(self) -> int:
        """How many closed segments the store does not have yet."""
        return self._shipper.waiting if self._shipper else 0

    def close(self) -> None:
        """Write what waits, close the segment and ship it; waits for ever neither on a disk nor for a store."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
            self._writer.join(_CLOSING_SECONDS)
            self._tidying.put(False)
            self._tidier.join(_CLOSING_SECONDS)
            if self._shipper:
                self._shipper.close()

    # The writer's thread

    def _write_all(self) -> None:
        is_open = True
        while is_open:
            group: list[_Waiting] = []
            with contextlib.suppress(queue.Empty):
                due = self._open.seconds_left if self._open and self._open.size else None
                item = self._queue.get(timeout=due)
                while item is not None:
                    group.append(item)
                    item = self._queue.get_nowait()
                is_open = False
            if group:
                self._write(group)
            if self._open and (not is_open or self._open.is_due(self._segment_bytes)):
                self._leave()
                self._tidying.put(True)

    def _write(self, group: Sequence[_Waiting]) -> None:
        """All at once: under load, one call of the system for the records of many requests."""
        outcome, start = "written", time.monotonic()
        try:
            if self._open and self._open.is_gone():
                self._leave()
            if self._open is None:
                self._open = _OpenSegment(self._folder)
            self._open.write(b"".join([waiting.line for waiting in group]))
            if self._write_problem:
                self._write_problem = ""
                self._tidying.put(True)
        except OSError as error:
            outcome = "disk_full" if error.errno in _FULL else "unwritable"
            self._write_problem = self._describe(error)
            if self._open and self._open.is_torn:
                self._leave()
        self._count(outcome, len(group))
        self._is_slow = time.monotonic() - start > self._patience
        for waiting in group:
            waiting.is_written = outcome == "written"
            waiting.done.release()

    def _leave(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    def _count(self, outcome: str, records: int = 1) -> None:
        with self._counting:
            self._counts[outcome] += records
        if self._on_outcome:
            self._on_outcome(outcome, records)

    def _describe(self, error: OSError) -> str:
        mend = "free some space" if error.errno in _FULL else "choose another folder, or make this one writable"
        return f"{self._folder}: cannot be written ({describe_os_error(error)}); {mend}"

    # The tidier's thread

    def _tidy_all(self) -> None:
        goes_on = True
        while goes_on:
            with contextlib.suppress(queue.Empty):
                goes_on = self._tidying.get(timeout=_SEGMENT_SECONDS)
            try:
                self._prune()
                for path in self._segments():
                    if path.suffix == ".jsonl":
                        _close_segment(path)
                self._prune()
                self._tidy_problem = ""
            except OSError as error:
                self._tidy_problem = self._describe(error)
            if self._shipper:
                self._shipper.wake()

    def _segments(self) -> list[Path]:
        """The oldest first."""
        return sorted(path for path in self._folder.iterdir() if SEGMENT.fullmatch(path.name))

    def _prune(self) -> None:
        """Remove the oldest closed segments: what is too old, and what leaves no room for one more open segment.

        What a store does not have goes last, and never for its age.
        """
        segments = self._segments()
        closed = [path for path in segments if path.suffix == ".parquet"]
        total = sum(map(_size, segments)) + self._segment_bytes
        oldest = datetime.now(UTC) - self._max_age - timedelta(seconds=_SEGMENT_SECONDS)
        shipped = {path for path in closed if self._shipper is None or self._shipper.has_shipped(path)}
        for path in sorted(closed, key=lambda path: path not in shipped):
            if total > self._max_bytes or (path in shipped and segment_begin(path.name) < oldest):
                total -= _size(path)
                if path not in shipped:
                    self._count("unshipped", _rows(path))
                path.unlink(missing_ok=True)  # another process may have been faster
        for mark in self._folder.glob(f"*{MARK}"):
            if not mark.with_suffix(".parquet").exists():
                mark.unlink(missing_ok=True)


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


class _OpenSegment:
    """A file that lines are added to, locked for as long as it is open.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        self.path = folder / f"{now.strftime(_NAME_TIME)}Z-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self.size = 0
        self.is_torn = False
        self._begun = time.monotonic()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        try:
            # Who tidies may have been here first, and removed it as empty: `is_gone` tells.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError:
            os.close(self._fd)
            raise

    @property
    def seconds_left(self) -> float:
        """Until it is to be closed."""
        return max(0.0, self._begun + _SEGMENT_SECONDS - time.monotonic())

    def is_due(self, segment_bytes: int) -> bool:
        """Whether it is to be closed now."""
        return self.size >= segment_bytes or (self.size > 0 and self.seconds_left == 0)

    def is_gone(self) -> bool:
        """Whether somebody removed the file."""
        return os.fstat(self._fd).st_nlink == 0

    def write(self, data: bytes) -> None:
        """Add all of ``data`` or, by a try that must not fail, nothing.

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
                self.is_torn = True  # its last line only, if nothing follows
            raise
        self.size += len(data)

    def close(self) -> None:
        """Leave it to who tidies."""
        with contextlib.suppress(OSError):
            if not self.size:
                self.path.unlink(missing_ok=True)
        os.close(self._fd)


def _line(record: Mapping[str, Any]) -> bytes:
    when = record["time"].astimezone(UTC).replace(tzinfo=None)
    embedding = np.asarray(record["embedding"], dtype="<f4").tobytes()
    wire = {**record, "time": when.isoformat(" "), "embedding": base64.b64encode(embedding).decode()}
    return to_json(wire, inf_nan_mode="null") + b"\n"


def _close_segment(path: Path) -> None:
    """Turn a segment whose writer has left it into Parquet.

    Raises:
        OSError: It cannot be written. Nothing is lost: the lines stay.
    """
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file.fileno()).st_nlink == 0:
            return  # another process closed it while this one opened it
        target = path.with_suffix(".parquet")
        table = None if target.exists() else _table(file.read())
        if table is not None and table.num_rows:
            temporary = target.with_name(f".{target.name}")
            with temporary.open("wb") as out:
                pq.write_table(table, out, compression="zstd")
                out.flush()
                os.fsync(out.fileno())  # the lines go, and may be on the disk already
            temporary.replace(target)
        path.unlink()


def _table(data: bytes) -> pa.Table:
    """The records of some lines; what is not whole, or no record, is left out."""
    schema = record_schema()
    data = data[: data.rfind(b"\n") + 1]
    if not data:
        return schema.empty_table()
    # Arrow's own reader: it lets the threads of requests run, which the same work in Python would not.
    reading = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
    parsing = pj.ParseOptions(explicit_schema=_wire(schema), unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(pa.BufferReader(data), read_options=reading, parse_options=parsing)
        embeddings = _embeddings(table["embedding"].to_pylist())
        index = table.schema.get_field_index("embedding")
        return table.set_column(index, "embedding", embeddings).select(schema.names).cast(schema)
    except ValueError:  # Arrow's are, too
        middle = data.find(b"\n", len(data) // 2 - 1) + 1
        if middle == len(data):
            middle = data.rfind(b"\n", 0, len(data) - 1) + 1
        if middle == 0:
            return schema.empty_table()
        return pa.concat_tables([_table(data[:middle]), _table(data[middle:])])


def _wire(schema: pa.Schema) -> pa.Schema:
    """Of a line: with the embedding in base64: shorter, quicker, and exact."""
    return pa.schema([field.with_type(pa.string()) if field.name == "embedding" else field for field in schema])


def _embeddings(texts: Sequence[str | None]) -> pa.Array:
    parts = [np.frombuffer(base64.b64decode(text or ""), "<f4") for text in texts]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    values = np.concatenate([np.empty(0, np.float32), *parts])
    # By buffers: `pa.array` would import pandas, where it is installed, into a server that does not need it.
    lists = pa.ListArray.from_arrays(
        pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)]),
        pa.Array.from_buffers(pa.float32(), len(values), [None, pa.py_buffer(values)]),
    )
    return lists.cast(pa.list_(pa.float32()))


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
                    return _table(path.read_bytes()).filter(wanted).select(columns)
                return pq.read_table(path, columns=columns, schema=schema, filters=wanted, partitioning=None)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); remove it") from error
    return None


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _rows(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(pq.read_metadata(path).num_rows)
    return 0
