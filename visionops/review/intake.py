"""Create review items from server logs: sampled images of traffic, and people's feedback on predictions.

Each record is taken exactly once, even after a crash. Its item is written under a key made of its segment and its place
there, or of the feedback's own identity. The cursor of a segment moves only after its items are durable. A cursor that
is behind costs time but never creates a second item.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from visionops.errors import ImageError, LabelError
from visionops.monitoring.drill_ids import drill_rows
from visionops.monitoring.segment_reading import LogSource
from visionops.review.checks import MOST_COMMENT, in_utc
from visionops.review.errors import Invalid, KeyReused
from visionops.review.items import RANDOM, Origin, Predicted, Reason, item_id
from visionops.review.ports import Cursor
from visionops.review.selection.random_share import RANDOM_TEXT, is_drawn
from visionops.review.server_logs import ServerLogs
from visionops.review.service import Arrival, Review
from visionops.review.settings import ReviewConfig
from visionops.review.states import Actor

__all__ = ["Intake", "IntakeResult"]

FEEDBACK_PRIORITY = 2.0
"""Priority of an item that a person reported."""
RANDOM_PRIORITY = 1.0
"""Priority of the random share until the queue is ordered: above unscored items, below reports of people."""
_TRAFFIC, _FEEDBACK = "traffic", "feedback"
_ACTOR = Actor("intake")
_TOGETHER = 256
_WRITING = timedelta(seconds=30)
"""Longest delay of writing a sampled image to its file; predictions do not wait for that."""


@dataclasses.dataclass(frozen=True, slots=True)
class IntakeResult:
    """Result of an intake."""

    new: int
    """Items created from sampled traffic."""
    known: int
    """Records whose image was in review before, or that were taken before."""
    feedback: int
    """Feedback records taken, for new or known items."""
    skipped: Mapping[str, int]
    """Number of records without an item, by reason."""
    refused: tuple[str, ...]
    """A line for each record that cannot be kept."""


class Intake:
    """Intake of the records of one use case.

    Args:
        use_case: Name, known to ``review``; also the name of the model whose records are read.
        settings: Share of the traffic that is drawn at random. `prioritize_items` orders the rest.
    """

    def __init__(self, review: Review, use_case: str, logs: ServerLogs, settings: ReviewConfig) -> None:
        self._review = review
        self._use_case = use_case
        self._logs = logs
        self._settings = settings

    def run(self, now: datetime) -> IntakeResult:
        """Take in all records that were not taken yet.

        Raises:
            DataError: A log cannot be read.
            NotFound: The use case is unknown.
            Unavailable: The database or the images cannot be reached or written.
        """
        now = in_utc(now)
        round_ = _Round(self._review, self._use_case, self._logs, self._settings, now)
        # Feedback refers to traffic that was logged before it. So list both logs first, and take traffic before
        # feedback.
        feedback = self._logs.feedback.stems()
        round_.take(_TRAFFIC, self._logs.predictions, self._logs.predictions.stems(), round_.traffic)
        round_.take(_FEEDBACK, self._logs.feedback, feedback, round_.feedback)
        counts = round_.counts
        skipped = {name: count for name, count in sorted(counts.items()) if name not in {"new", "known", "feedback"}}
        return IntakeResult(counts["new"], counts["known"], counts["feedback"], skipped, tuple(round_.refused))


class _Round:
    """One pass over the logs."""

    def __init__(
        self,
        review: Review,
        use_case: str,
        logs: ServerLogs,
        settings: ReviewConfig,
        now: datetime,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []
        self._review = review
        self._use_case = use_case
        self._logs = logs
        self._settings = settings
        self._now = now

    def take(
        self, log: str, source: LogSource, stems: Sequence[str], each: Callable[[str, int, pa.Table], int]
    ) -> None:
        """Take the records behind the cursors.

        Args:
            each: Function that takes records of a segment, starting at a place, and returns how many it took.
        """
        cursors = self._review.store.cursors(self._use_case, log)
        for stem in stems:
            done = cursors.get(stem, Cursor(0))
            if not done.is_finished and (segment := source.read(stem)) is not None:
                place, total = done.rows, len(segment.records)
                while place < total:
                    part = segment.records.slice(place, _TOGETHER)
                    taken = each(stem, place, part)
                    place += taken
                    self._move(log, stem, Cursor(place))
                    if taken < len(part):
                        break
                if segment.is_closed and place >= total:
                    done = Cursor(total, is_finished=True)
                    self._move(log, stem, done)
            if done.is_finished and log == _FEEDBACK:
                source.consumed(stem, self._use_case)

    def traffic(self, stem: str, place: int, records: pa.Table) -> int:
        """Create items from sampled images."""
        drills = drill_rows(records).to_pylist()
        for row, record in enumerate(records.drop_columns(["embedding"]).to_pylist()):
            if record["model"] != self._use_case:
                continue
            if (why := _skipped(record, is_drill=drills[row])) is not None:
                self.counts[why] += 1
                continue
            if (data := self._logs.image(stem, record)) is None:
                if self._now - record["time"] < _WRITING:
                    return row  # the image may still arrive: continue from here next time
                self.counts["image gone"] += 1
                continue
            arrival = Arrival(
                Origin.TRAFFIC,
                reference=record["request_id"],
                predicted=_predicted(record),
                reasons=self._reasons(hashlib.sha256(data).hexdigest()),
            )
            is_new = self._add(data, arrival, _ACTOR, f"traffic {stem} {place + row}")
            if is_new is not None:
                self.counts["new" if is_new else "known"] += 1
        return len(records)

    def feedback(self, stem: str, place: int, records: pa.Table) -> int:  # noqa: ARG002
        """Create arrivals from feedback."""
        for record in records.to_pylist():
            if record["model"] != self._use_case:
                continue
            data = self._logs.feedback.read_file(stem, record["sha256"])
            if data is None:
                self.counts["image gone"] += 1
                continue
            label = None if record["label_json"] is None else json.loads(record["label_json"])
            arrival = Arrival(
                Origin.TRAFFIC if record["request_id"] else Origin.UPLOAD,
                reference=record["request_id"],
                name=record["name"],
                comment=record["comment"],
                label=label,
                predicted=_predicted(record),
                reasons=(Reason("feedback", FEEDBACK_PRIORITY),),
            )
            is_new = self._add(data, arrival, Actor(record["client"] or "feedback"), f"feedback {record['id']}")
            self.counts["feedback"] += is_new is not None
        return len(records)

    def _reasons(self, sha256: str) -> tuple[Reason, ...]:
        item = item_id(self._use_case, sha256)
        if is_drawn(item, self._settings.random_share, self._settings.seed):
            return (Reason(RANDOM, RANDOM_PRIORITY, RANDOM_TEXT),)
        return ()

    def _add(self, data: bytes, arrival: Arrival, actor: Actor, key: str) -> bool | None:
        """Add an arrival. Return whether its item is new, or None where it cannot be stored."""
        attempts = [arrival]
        # Keep feedback whose label no longer fits, and an image whose prediction is missing.
        if arrival.label is not None:
            said = f"{arrival.comment}\nlabel: {json.dumps(arrival.label, ensure_ascii=False)}".strip()
            attempts.append(dataclasses.replace(arrival, label=None, comment=said[:MOST_COMMENT]))
        if arrival.predicted is not None:
            attempts.append(dataclasses.replace(attempts[-1], predicted=None))
        problem: Exception | None = None
        for attempt in attempts:
            try:
                return self._review.add(self._use_case, data, attempt, actor, key=key, now=self._now).is_new
            except KeyReused:
                return False  # it was taken before, when its reasons or the classes in review were different
            except (ImageError, Invalid, LabelError) as error:
                problem = problem or error
        self.counts["refused"] += 1
        self.refused.append(f"{key}: {problem}")
        return None

    def _move(self, log: str, stem: str, cursor: Cursor) -> None:
        self._review.store.move_cursor(self._use_case, log, stem, cursor, self._now)


def _skipped(record: Mapping[str, Any], *, is_drill: bool) -> str | None:
    """Return the reason why a record gets no item; None where it may get one."""
    if is_drill:
        return "drill"
    if not record["image"]:
        return "not sampled"
    # Records of batch inference: their images stay with the sender and are not sampled.
    return "batch" if Path(record["image"]).is_absolute() else None


def _predicted(record: Mapping[str, Any]) -> Predicted | None:
    """Return the prediction of a record with its whole answer; None where it is missing or is not JSON."""
    if not record["answer_json"] or not record["version"]:
        return None
    try:
        return Predicted(record["model"], record["version"], json.loads(record["answer_json"]))
    except (ValueError, Invalid):
        return None
