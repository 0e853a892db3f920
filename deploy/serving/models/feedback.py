"""What people say of a prediction or an image: checked, joined with the prediction, and kept durably.

The server keeps it in the feedback log beside the prediction log; `visionops review intake` makes items of it. So no
database is on the way of an answer, and an answer of 202 means that the feedback survives a crash.
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

__all__ = ["Feedback", "Kept", "Said", "open_feedback"]

_THREADS = 2
_MOST_WAITING = 32
_WRITING_SECONDS = 2.0
"""How long a sampled image may take to its file, which no prediction waits for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What a client says, its texts checked."""

    client: str
    """Id of its key; "" where the server has none."""
    key: str
    """Its name for this feedback; "" for none."""
    label: Mapping[str, Any] | None
    comment: str
    name: str = ""
    """Of the image's file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What became of it."""

    use_case: str
    item: str
    """Id of the review item."""
    sha256: str
    known: bool
    """Whether the same feedback had come before."""


class Feedback:
    """Keeps feedback. `of_image` and `of_request` wait for the disk; safe to call from several threads.

    Args:
        log: None: there is no prediction log, and all feedback is refused.
        folder: Of the prediction log.
        max_pixels: Of an image.
    """

    def __init__(self, log: FeedbackLog | None, folder: Path | None, max_pixels: int) -> None:
        self._log = log
        self._folder = folder
        self._max_pixels = max_pixels
        self._searching = threading.Lock()
        # Of its own: a flood of feedback must not hold up what else waits for threads.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="feedback")
        self._waiting = 0

    def check(self) -> None:
        """Refuse feedback where it cannot be kept, before its body is read.

        Raises:
            NoPredictionLog: There is no prediction log.
        """
        if self._log is None:
            raise NoPredictionLog("this server keeps no feedback; start it with --prediction-log FOLDER")

    async def run(self, work: Callable[..., Kept], *arguments: object) -> Kept:
        """Return what ``work``, a method of this object, returns, on a thread.

        Raises:
            Busy: Too much waits already.
        """
        if self._waiting >= _MOST_WAITING:
            raise Busy("too much feedback waits for the disk; try again in a second")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, functools.partial(work, *arguments))
        finally:
            self._waiting -= 1

    def of_image(self, said: Said, served: ServedModel, image: bytes) -> Kept:
        """Keep what is said of an image that came with it.

        Args:
            served: Whose use case the image is for.

        Raises:
            ImageError: The bytes are no usable image.
            LabelError: The label does not fit.
            KeyReused: The key was used for other feedback.
            FeedbackUnwritable, FeedbackDiskFull: It cannot be kept.
        """
        header = read_header(image, max_pixels=self._max_pixels)
        record = {"request_id": "", "model": served.ref.name, "version": "", "answer_json": None, "name": said.name}
        return self._keep(said, served, record, image, header)

    def of_request(self, said: Said, models: Models, request_id: str) -> Kept:
        """Keep what is said of a prediction of this server.

        Raises:
            UnknownRequest: The log has no such prediction.
            ImageNotKept: Its image was not sampled, or is gone.
            UnknownModel: Its model is not served any more, so that a label cannot be checked.
            LabelError: The label does not fit.
            KeyReused: The key was used for other feedback.
            FeedbackUnwritable, FeedbackDiskFull: It cannot be kept.
        """
        from visionops.monitoring.log_reading import find_record  # pyarrow, which no server needs without a log

        self.check()
        assert self._folder is not None
        with self._searching:  # a search reads the ids of all segments: one at a time
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
        """How the log is, for `/ready`; empty where all is well or there is none."""
        return {"feedback_log": self._log.problem} if self._log and self._log.problem else {}

    def close(self) -> None:
        """Finish what is under way, and ship what waits."""
        self._pool.shutdown(cancel_futures=True)
        if self._log:
            self._log.close()

    def _image(self, record: Mapping[str, Any]) -> bytes | None:
        """The sampled image of a record; None where there is none."""
        assert self._folder is not None
        # A batch names images that lie elsewhere: they are not the server's to read.
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

    def _keep(self, said: Said, served: ServedModel, record: dict[str, Any], image: bytes, header: ImageHeader) -> Kept:
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
            except TaskError as error:  # its labels cannot be reviewed
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
        except DataError as error:  # a segment that was there before cannot be read
            raise FeedbackUnwritable(str(error)) from error
        except OSError as error:
            raise _failure(error) from error
        return Kept(use_case, item_id(use_case, sha256), sha256, known=not is_new)


def _failure(error: OSError) -> ApiError:
    from visionops.monitoring.tidying import FULL

    what = f"the feedback cannot be kept ({describe_os_error(error)})"
    if error.errno in FULL:
        return FeedbackDiskFull(f"{what}; free some space and send it again")
    return FeedbackUnwritable(f"{what}; make the folder of --prediction-log writable")


def open_feedback(settings: Settings, metrics: Metrics) -> Feedback:
    """Return what keeps feedback beside the prediction log of ``settings``, counted in ``metrics``."""
    if settings.prediction_log is None:
        return Feedback(None, None, settings.max_pixels)
    from visionops.monitoring.feedback import FEEDBACK_OUTCOMES, FeedbackLog  # pyarrow

    counter = Counter(
        "visionops_feedback",
        "Feedback that was kept or known, or lost and why.",
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
