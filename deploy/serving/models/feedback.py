"""Check feedback on a prediction or an image, join it with the prediction, and store it durably.

The server stores it in the feedback log beside the prediction log; `visionops review intake` creates review items from
it. So a request needs no database, and status 202 means that the feedback survives a crash.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

from deploy.http.errors import ApiError, Busy
from deploy.serving.errors import (
    FeedbackDiskFull,
    FeedbackUnwritable,
    ImageNotKept,
    KeyReused,
    NoPredictionLog,
    UnknownRequest,
)
from deploy.serving.metrics import Metrics
from deploy.serving.models.models import ServedModel
from deploy.serving.models.registry import Models
from deploy.serving.settings import Settings
from visionops.data.files import describe_os_error
from visionops.errors import DataError, LabelError, TaskError
from visionops.inference.image import ImageHeader, read_header
from visionops.review.checks import canonical, digest_of
from visionops.review.items import item_id
from visionops.tasks.labelling import LabelScheme, Question
from visionops.tasks.spec import task_for

if TYPE_CHECKING:
    from visionops.monitoring.feedback import FeedbackLog

__all__ = ["CheckedFeedback", "Feedback", "StoredFeedback", "open_feedback"]

_THREADS = 2
_MOST_WAITING = 32
_WRITING_SECONDS = 2.0
"""Seconds to wait for the file of a sampled image, which is written after the prediction."""


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedFeedback:
    """Feedback of a client, with checked texts."""

    client: str
    """Id of the client's API key; "" if the server has no keys."""
    key: str
    """Idempotency key of the feedback; "" for none."""
    label: Mapping[str, Any] | None
    comment: str
    name: str = ""
    """Name of the image file."""


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFeedback:
    """Result of storing feedback."""

    use_case: str
    item: str
    """Id of the review item that it becomes."""
    sha256: str
    known: bool
    """Whether the same feedback was stored before."""


class Feedback:
    """Store feedback. `of_image` and `of_request` wait for the disk; safe to call from several threads.

    Args:
        log: Feedback log; None without a prediction log, in which case all feedback is refused.
        folder: Folder of the prediction log.
        max_pixels: Maximum number of pixels of an image.
    """

    def __init__(self, log: FeedbackLog | None, folder: Path | None, max_pixels: int) -> None:
        self._log = log
        self._folder = folder
        self._max_pixels = max_pixels
        self._searching = threading.Lock()
        # Separate threads, so that a flood of feedback does not delay predictions.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="feedback")
        self._waiting = 0

    def check(self) -> None:
        """Refuse feedback that cannot be stored, before its body is read.

        Raises:
            NoPredictionLog: There is no prediction log.
        """
        if self._log is None:
            raise NoPredictionLog("this server stores no feedback; start it with --prediction-log FOLDER")

    async def run(self, work: Callable[..., StoredFeedback], *arguments: object) -> StoredFeedback:
        """Call ``work``, a method of this object, on a thread, and return its result.

        Raises:
            Busy: Too much feedback is waiting.
        """
        if self._waiting >= _MOST_WAITING:
            raise Busy("too much feedback is waiting for the disk; try again in a second")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, functools.partial(work, *arguments))
        finally:
            self._waiting -= 1

    def of_image(self, said: CheckedFeedback, served: ServedModel, image: bytes) -> StoredFeedback:
        """Store feedback that comes with its image.

        Args:
            served: Model of the image's use case.

        Raises:
            ImageError: The bytes are not a usable image.
            LabelError: The label does not match the task.
            KeyReused: The key was used for other feedback.
            FeedbackUnwritable, FeedbackDiskFull: The feedback cannot be stored.
        """
        header = read_header(image, max_pixels=self._max_pixels)
        record = {"request_id": "", "model": served.ref.name, "version": "", "answer_json": None, "name": said.name}
        return self._keep(said, served, record, image, header)

    def of_request(self, said: CheckedFeedback, models: Models, request_id: str) -> StoredFeedback:
        """Store feedback on a prediction of this server.

        Raises:
            UnknownRequest: The prediction log has no such prediction.
            ImageNotKept: The image was not sampled, or was removed.
            UnknownModel: The model is not served any more, so the label cannot be checked.
            LabelError: The label does not match the task.
            KeyReused: The key was used for other feedback.
            FeedbackUnwritable, FeedbackDiskFull: The feedback cannot be stored.
        """
        from visionops.monitoring.log_reading import find_record  # imports pyarrow, needed only with a log

        self.check()
        assert self._folder is not None
        with self._searching:  # one search at a time, because it reads the ids of all segments
            try:
                found = find_record(self._folder, request_id)
            except DataError as error:
                raise FeedbackUnwritable(str(error)) from error
        if found is None:
            raise UnknownRequest(
                f"request_id {request_id!r}: this server's log has no such prediction; send the id that its answer had "
                "in X-Request-ID, or the image"
            )
        image = self._image(found)
        if image is None:
            raise ImageNotKept(f"request_id {request_id!r}: its image was not kept; send the image, as the field file")
        header = read_header(image, max_pixels=self._max_pixels)
        wanted = ("request_id", "model", "version", "answer_json")
        record = {name: found[name] for name in wanted} | {"name": ""}
        return self._keep(said, models.get(found["model"]), record, image, header)

    def status(self) -> dict[str, str]:
        """Return the problem of the log, for `/ready`; empty without a problem or a log."""
        return {"feedback_log": self._log.problem} if self._log and self._log.problem else {}

    def close(self) -> None:
        """Finish the writes in progress, and upload the segments."""
        self._pool.shutdown(cancel_futures=True)
        if self._log:
            self._log.close()

    def _image(self, record: Mapping[str, Any]) -> bytes | None:
        """Return the sampled image of a record; None if there is none."""
        assert self._folder is not None
        # A batch record names an image outside of the log, which the server must not read.
        if not record["image"] or Path(record["image"]).is_absolute():
            return None
        path: Path = self._folder / record["image"]
        end = time.monotonic() + _WRITING_SECONDS
        is_young = datetime.now(UTC) - record["time"] < timedelta(seconds=10 * _WRITING_SECONDS)
        while True:
            try:
                return path.read_bytes()
            except OSError:
                if not is_young or time.monotonic() >= end:
                    return None
            time.sleep(0.05)

    def _keep(
        self, said: CheckedFeedback, served: ServedModel, record: dict[str, Any], image: bytes, header: ImageHeader
    ) -> StoredFeedback:
        from visionops.monitoring.feedback import OtherContent

        self.check()
        assert self._log is not None
        label = None
        if said.label is not None:
            card = served.predictor.bundle.card
            questions = tuple(Question(name=head.name, class_names=head.class_names) for head in card.heads)
            scheme = LabelScheme(class_names=() if questions else card.class_names, questions=questions)
            try:
                task = task_for(card.task)
                label = canonical(task.check_label(said.label, scheme, header.width, header.height))
            except TaskError as error:  # the task has no reviewable labels
                raise LabelError(f"label: {error}") from error
        use_case, sha256 = record["model"], hashlib.sha256(image).hexdigest()
        content = digest_of(use_case, record["request_id"], sha256, label, said.comment, record["name"])
        record |= {
            "time": datetime.now(UTC),
            "id": digest_of(said.client, said.key) if said.key else digest_of(said.client, None, content),
            "content": content,
            "client": said.client,
            "sha256": sha256,
            "label_json": label,
            "comment": said.comment,
        }
        try:
            is_new = self._log.append(record, image)
        except OtherContent as error:
            raise KeyReused(f"Idempotency-Key: {error}") from error
        except DataError as error:  # an existing segment cannot be read
            raise FeedbackUnwritable(str(error)) from error
        except OSError as error:
            raise _failure(error) from error
        return StoredFeedback(use_case, item_id(use_case, sha256), sha256, known=not is_new)


def _failure(error: OSError) -> ApiError:
    from visionops.monitoring.tidying import FULL

    what = f"the feedback cannot be stored ({describe_os_error(error)})"
    if error.errno in FULL:
        return FeedbackDiskFull(f"{what}; free some space and send it again")
    return FeedbackUnwritable(f"{what}; make the folder of --prediction-log writable")


def open_feedback(settings: Settings, metrics: Metrics) -> Feedback:
    """Return the feedback store beside the prediction log of ``settings``, which counts in ``metrics``."""
    if settings.prediction_log is None:
        return Feedback(None, None, settings.max_pixels)
    from visionops.monitoring.feedback import FEEDBACK_OUTCOMES, FeedbackLog  # pyarrow

    counter = Counter(
        "visionops_feedback",
        "Feedback by outcome: stored, known already, or the reason why not stored.",
        ["outcome"],
        registry=metrics.registry,
    )
    of_outcome = {outcome: counter.labels(outcome) for outcome in FEEDBACK_OUTCOMES}
    log = FeedbackLog(
        settings.prediction_log,
        max_bytes=settings.prediction_log_feedback_max_mb * 1_000_000,
        max_age_days=settings.prediction_log_max_days,
        on_outcome=lambda outcome, records: of_outcome[outcome].inc(records),
        store=settings.prediction_log_store,
    )
    return Feedback(log, settings.prediction_log, settings.max_pixels)
