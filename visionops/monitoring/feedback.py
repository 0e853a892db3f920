"""Write the feedback log: people's feedback on predictions or images, durable when `append` returns.

    <log>/feedback/20260302T061409123456Z-4711-9f2c1e5a.jsonl     open: the process 4711 holds a lock on it
    <log>/feedback/20260302T061409123456Z-4711-9f2c1e5a.files/    images of its records, by their SHA-256
    <log>/feedback/20260302T061301001522Z-4711-03ab77d1.parquet   closed
    <log>/feedback/20260302T061301001522Z-4711-03ab77d1.consumed  the review has taken its records

The image is on the disk before the line that names it, and the line before `append` returns. Feedback is rare and a
person's work, so it waits for the disk, unlike a record of the prediction log. Any number of processes may write to one
folder, and any may read it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from visionops.errors import DataError, VisionOpsError
from visionops.monitoring.kinds import FEEDBACK, FILES
from visionops.monitoring.segment_reading import LogSource
from visionops.monitoring.segments import SEGMENT_SECONDS, OpenSegment, wire_line
from visionops.monitoring.shipping import Shipper
from visionops.monitoring.tidying import CONSUMED, FULL, Tidier, unwritable

__all__ = ["FEEDBACK_OUTCOMES", "FeedbackLog", "OtherContent"]

FEEDBACK_OUTCOMES = ("written", "known", "disk_full", "unwritable", "unconsumed")
"""Outcomes of feedback: written, already known, not writable, or removed before the review took it because the log
reached its size."""
_OPEN_SECONDS = 60.0
"""Seconds after which a segment is closed, so that the store gets it soon."""
_CLOSING_SECONDS = 10.0


class OtherContent(VisionOpsError):
    """The id was used for other feedback."""

    code = "key_reused"


class FeedbackLog:
    """Writer of one process's feedback. Safe to use from several threads.

    Args:
        log: Folder of the prediction log.
        max_bytes: Maximum size of all feedback with its images; the oldest closed segments are removed, those that
            are done first.
        max_age_days: Maximum age of a segment that the review, or the store, has.
        segment_bytes: Size from which a segment is closed.
        on_outcome: Called with each outcome and its number of records, from several threads.
        store: Store that closed segments are sent to; see `visionops.monitoring.stores`.

    Raises:
        DataError: ``store`` is not the URI of a store.
    """

    def __init__(
        self,
        log: Path,
        *,
        max_bytes: int = 1_000_000_000,
        max_age_days: float = 30,
        segment_bytes: int = 4_000_000,
        on_outcome: Callable[[str, int], None] = lambda _outcome, _records: None,
        store: str | None = None,
    ) -> None:
        self._folder = folder = log / FEEDBACK.folder
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self._on_outcome = on_outcome
        self._lock = threading.Lock()
        self._open: OpenSegment | None = None
        self._seen: dict[str, int] = {}
        self._known: dict[str, str] = {}
        self._lost = 0
        self._tidy_problem = ""
        # A store is not pruned by age, because it does not know what the review has taken.
        self._shipper = Shipper(folder, store, None, FEEDBACK) if store else None
        self._segments = Tidier(
            folder,
            FEEDBACK,
            max_bytes=max_bytes,
            max_age=timedelta(days=max_age_days),
            segment_bytes=self._segment_bytes,
            is_done=self._is_done,
            on_lost=self._count_lost,
        )
        self._tidying: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._tidying.put(True)
        self._tidier = threading.Thread(target=self._tidy_all, name="feedback-log-tidy", daemon=True)
        self._tidier.start()

    def append(self, record: Mapping[str, Any], image: bytes) -> bool:
        """Store feedback. When this returns, it survives a crash.

        Args:
            record: Columns of `FEEDBACK_RECORD`; ``time`` is an aware datetime, ``sha256`` that of the image.
            image: The encoded file.

        Returns:
            False where the log already has it, and nothing was written.

        Raises:
            OtherContent: The log has other feedback of this ``id``.
            DataError: An earlier segment cannot be read.
            OSError: It cannot be written. It is not stored, and may be sent again.
        """
        with self._lock:
            try:
                known = self._content_of(record["id"])
            except DataError:
                self._on_outcome("unwritable", 1)
                raise
            if known is not None:
                if known != record["content"]:
                    raise OtherContent("the key was used for other feedback; send a new one")
                self._on_outcome("known", 1)
                return False
            try:
                self._write(record, image)
            except OSError as error:
                self._on_outcome("disk_full" if error.errno in FULL else "unwritable", 1)
                if self._open and (self._open.is_torn or not self._open.size):
                    self._leave()
                raise
            self._known[record["id"]] = record["content"]
            if self._open:
                self._seen[self._open.path.stem] = self._open.size
            self._on_outcome("written", 1)
            if self._open and self._open.is_due(self._segment_bytes):
                self._leave()
        self._tidying.put(True)
        return True

    @property
    def problem(self) -> str:
        """Return the current problem in one line; "" where there is none."""
        if self._lost:
            return (
                f"{self._folder}: {self._lost} feedbacks were removed before review, because the log is full; run "
                "visionops review intake, or raise prediction_log_feedback_max_mb"
            )
        return self._tidy_problem or (self._shipper.problem if self._shipper else "")

    def close(self) -> None:
        """Close the segment and send it to the store, with limited waiting."""
        with self._lock:
            self._leave()
        self._tidying.put(False)
        self._tidier.join(_CLOSING_SECONDS)
        if self._shipper:
            self._shipper.close()

    # Called under the lock

    def _write(self, record: Mapping[str, Any], image: bytes) -> None:
        if self._open and self._open.is_gone():
            self._leave()
        if self._open is None:
            self._open = OpenSegment(self._folder, _OPEN_SECONDS)
            _flush(self._folder)
            _flush(self._folder.parent)
        _keep_file(self._open.path.with_suffix(FILES), record["sha256"], image)
        when = record["time"].astimezone(UTC).replace(tzinfo=None)
        self._open.write(wire_line({**record, "time": when.isoformat(" ")}))
        self._open.flush()

    def _content_of(self, name: str) -> str | None:
        """Return the content of the feedback with this id, from any process."""
        if (found := self._known.get(name)) is not None:
            return found
        source = LogSource(self._folder, None, FEEDBACK)
        for stem in source.stems():
            size = source.size(stem)
            if self._seen.get(stem) != size and (segment := source.read(stem)) is not None:
                ids, contents = (segment.records[column].to_pylist() for column in ("id", "content"))
                self._known |= dict(zip(ids, contents, strict=True))
                self._seen[stem] = size
        return self._known.get(name)

    def _leave(self) -> None:
        if self._open:
            self._open.close()
            self._open = None

    # The tidier's thread

    def _tidy_all(self) -> None:
        goes_on = True
        while goes_on:
            with contextlib.suppress(queue.Empty):
                with self._lock:
                    due = self._open.seconds_left if self._open else SEGMENT_SECONDS
                goes_on = self._tidying.get(timeout=due)
            with self._lock:
                if self._open and self._open.is_due(self._segment_bytes):
                    self._leave()
            try:
                if self._folder.is_dir():
                    self._segments.tidy()
                self._tidy_problem = ""
            except OSError as error:
                self._tidy_problem = unwritable(self._folder, error)
            if self._shipper:
                self._shipper.wake()

    def _is_done(self, segment: Path) -> bool:
        """Return whether the store, or the review of every model in it, has taken the segment."""
        if self._shipper and self._shipper.has_shipped(segment):
            return True
        with contextlib.suppress(OSError, ValueError):
            taken = segment.with_suffix(CONSUMED).read_text(encoding="utf-8").splitlines()
            return set(pq.read_table(segment, columns=["model"])["model"].to_pylist()) <= set(taken)
        return False

    def _count_lost(self, records: int) -> None:
        self._lost += records
        self._on_outcome("unconsumed", records)


def _keep_file(folder: Path, name: str, data: bytes) -> None:
    target = folder / name
    if target.is_file() and target.stat().st_size == len(data):
        return  # an earlier record of the segment has this image and waited for the disk
    folder.mkdir(exist_ok=True)
    draft = folder / f".{name}"
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    _flush(folder)
    _flush(folder.parent)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
