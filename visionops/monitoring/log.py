"""Write the prediction log: one record for each prediction, with its request and answer.

A record is written at once, as a line of JSON, to the open segment of its process. A segment that is large or an hour
old is closed and converted to Parquet. Written data survives the process, so a killed process loses no acknowledged
record; a machine that loses power may lose the last seconds.

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

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from visionops.monitoring.kinds import PREDICTIONS
from visionops.monitoring.record import record_schema
from visionops.monitoring.segments import SEGMENT_SECONDS, OpenSegment, record_line
from visionops.monitoring.shipping import Shipper
from visionops.monitoring.tidying import FULL, Tidier, unwritable

__all__ = ["OUTCOMES", "PredictionLog"]

OUTCOMES = ("written", "overflow", "disk_full", "unwritable", "invalid", "closed", "unshipped")
"""Outcomes of a record: written, or dropped because too many waited, the disk was full, the folder could not be
written, the record was invalid, or the log was closed. Unshipped: written, but removed before the store had it."""

_CLOSING_SECONDS = 10.0


@dataclasses.dataclass(slots=True, eq=False)
class _Waiting:
    """A line that waits to be written."""

    line: bytes
    done: threading.Lock
    """Lock held until the outcome is known: waiting for a lock costs a third of waiting for an event."""
    is_written: bool = False


class PredictionLog:
    """Writer of one process's log. Safe to use from several threads; raises nothing after its creation.

    Args:
        folder: Folder of the segments, created if missing.
        max_bytes: Maximum size of all segments together; the oldest closed ones are removed.
        max_age_days: Maximum age of a segment.
        segment_bytes: Size from which a segment is closed; at most a quarter of ``max_bytes``.
        capacity: Maximum number of records that wait to be written; more are dropped.
        patience: Seconds that `append` waits for its record to be written. After one timeout, no call waits until the
            disk is fast again.
        on_outcome: Called with each outcome and its number of records, from several threads.
        on_image_missing: Called with the number of sampled images that the store lacks, because the folder has not.
        store: Store that closed segments are sent to; see `visionops.monitoring.stores`. Segments that it does not have
            stay here beyond their age, but not beyond ``max_bytes``.

    Raises:
        DataError: ``store`` is not the URI of a store.
        TaskError: The package of a task cannot be imported.
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
        on_image_missing: Callable[[int], None] = lambda _images: None,
        store: str | None = None,
    ) -> None:
        record_schema()  # so that a broken package of a task is reported now and not in a thread
        self._folder = folder
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._capacity = capacity
        self._patience = patience
        self._on_outcome = on_outcome
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._counts = dict.fromkeys(OUTCOMES, 0)
        self._counting = threading.Lock()
        self._open: OpenSegment | None = None
        self._is_slow = False
        self._is_closed = False
        self._write_problem = ""
        self._tidy_problem = ""
        max_age = timedelta(days=max_age_days)
        self._shipper = Shipper(folder, store, max_age, on_missing=on_image_missing) if store else None
        self._segments = Tidier(
            folder,
            PREDICTIONS,
            max_bytes=max_bytes,
            max_age=max_age,
            segment_bytes=self._segment_bytes,
            is_done=self._shipper.has_shipped if self._shipper else lambda _segment: True,
            on_lost=lambda records: self._count("unshipped", records),
        )
        self._tidying: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._tidying.put(True)
        try:
            self._open = OpenSegment(folder)  # so that an unwritable folder is reported before it is needed
        except OSError as error:
            self._write_problem = unwritable(folder, error)
        self._writer = threading.Thread(target=self._write_all, name="prediction-log", daemon=True)
        self._tidier = threading.Thread(target=self._tidy_all, name="prediction-log-tidy", daemon=True)
        self._writer.start()
        self._tidier.start()

    def append(self, record: Mapping[str, Any]) -> bool:
        """Write one record, and wait a limited time for it.

        Args:
            record: Columns of `record_schema`; ``time`` is an aware datetime, ``embedding`` a sequence or an array. A
                number that is not finite is stored as missing.

        Returns:
            Whether the record survives the process. Where this is False, `counts` and `problem` have the reason.
        """
        try:
            line = record_line(record)
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
        """Return the folder of the segments."""
        return self._folder

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of records by their `OUTCOMES`."""
        with self._counting:
            return dict(self._counts)

    @property
    def problem(self) -> str:
        """Return the current problem in one line; "" where there is none."""
        if self._write_problem or not self._is_slow:
            return self._write_problem or self._tidy_problem or (self._shipper.problem if self._shipper else "")
        return (
            f"{self._folder}: a write takes over {self._patience:g} s, answers no longer wait for it; use a faster disk"
        )

    @property
    def unshipped(self) -> int:
        """Return the number of closed segments that the store does not have yet."""
        return self._shipper.waiting if self._shipper else 0

    def close(self) -> None:
        """Write all waiting records, close the segment and ship it, with limited waiting for disk and store."""
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
        """Write all waiting lines at once: under load, one system call for the records of many requests."""
        outcome, start = "written", time.monotonic()
        try:
            if self._open and self._open.is_gone():
                self._leave()
            if self._open is None:
                self._open = OpenSegment(self._folder)
            self._open.write(b"".join([waiting.line for waiting in group]))
            if self._write_problem:
                self._write_problem = ""
                self._tidying.put(True)
        except OSError as error:
            outcome = "disk_full" if error.errno in FULL else "unwritable"
            self._write_problem = unwritable(self._folder, error)
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

    # The tidier's thread

    def _tidy_all(self) -> None:
        goes_on = True
        while goes_on:
            with contextlib.suppress(queue.Empty):
                goes_on = self._tidying.get(timeout=SEGMENT_SECONDS)
            try:
                self._segments.tidy()
                self._tidy_problem = ""
            except OSError as error:
                self._tidy_problem = unwritable(self._folder, error)
            if self._shipper:
                self._shipper.wake()
