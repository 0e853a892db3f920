"""Predict, time and record the images of a request, for all routes.

The routes read a request and write its response. In between, each image runs on a thread of the dispatcher, and its
prediction is timed, recorded in the prediction log, offered to the shadow and counted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from deploy.http.errors import UploadTooLarge, status_and_code
from deploy.serving.errors import ModelFailed
from deploy.serving.metrics import Metrics
from deploy.serving.models.dispatcher import Dispatcher
from deploy.serving.models.entries import Choice
from deploy.serving.models.models import ServedModel
from deploy.serving.models.recording import PendingRecord, Recorder
from deploy.serving.models.registry import Models
from visionops.errors import ImageError
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image

__all__ = ["Answer", "PredictionRequest", "PredictionService", "Refused"]

Refused = ImageError | UploadTooLarge | ModelFailed
"""Error of one image in a request whose other images have answers."""


_FALLBACK = "fallback"
"""Arm of an answer by the champion after the canary failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Parameters of a request for all its images: model, thresholds and id."""

    choice: Choice
    options: Mapping[str, float]
    """Thresholds of this request, as in `Predictor.predict`."""
    request_id: str
    source: str = ""
    """Camera, line or site of the images, as the client sent it, unchecked; "" for none."""
    deadline: float | None = None
    """Time by which all answers must be ready, on the clock of `time.monotonic`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The prediction for one image."""

    served: ServedModel
    """Model that answered: the champion if a canary failed."""
    prediction: Prediction
    timing_ms: Mapping[str, float]
    """Milliseconds of each stage, and their ``total`` from the encoded image to the prediction."""
    json: bytes = b""
    """The body of `/predict`; empty in an answer of `predict_together`."""
    record: PendingRecord | None = None
    """Record to write into the log; None if it is written already, or there is no log."""


class PredictionService:
    """Predict the images of requests."""

    def __init__(self, models: Models, dispatcher: Dispatcher, recorder: Recorder, metrics: Metrics) -> None:
        self._models = models
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._metrics = metrics

    async def predict(self, request: PredictionRequest, image: Image, *, where: str = "upload") -> tuple[Answer, float]:
        """Predict the only image of a request.

        Args:
            where: Name of the image in errors.

        Returns:
            The answer, and the milliseconds that it waited for a thread.

        Raises:
            ImageError: The image cannot be used.
            OptionError: The task has no such option.
            ModelFailed: The model failed.
            Overloaded: The queue is full.
            DeadlineMissed: There is no answer by the deadline.
            TimeLimitExceeded: There is no answer within the time limit.
        """
        start = time.perf_counter()
        answer = await self._dispatcher.run(
            functools.partial(self._keep, request, image, where=where, record_id=request.request_id),
            deadline=request.deadline,
            kind=request.choice.served.digest,
        )
        queue_ms = (time.perf_counter() - start) * 1000 - answer.timing_ms["total"]
        self._metrics.prediction(answer.served.ref.name, answer.prediction, answer.timing_ms, queue_ms)
        return answer, queue_ms

    async def predict_each(self, request: PredictionRequest, images: Sequence[Image]) -> list[Answer | Refused]:
        """Predict several images, in order; an unusable image gets an error of its own.

        Raises:
            OptionError: The task has no such option.
            Overloaded: The queue is full.
            DeadlineMissed: There is no answer by the deadline.
            TimeLimitExceeded: There is no answer to all of them within the time limit.
        """
        answers = await self._dispatcher.run_all(
            [functools.partial(self._attempt, request, image, number) for number, image in enumerate(images, start=1)],
            deadline=request.deadline,
            kind=request.choice.served.digest,
        )
        for answer in answers:
            if isinstance(answer, Answer):
                self._metrics.prediction(request.choice.served.ref.name, answer.prediction, answer.timing_ms)
            else:
                self._metrics.rejected(status_and_code(answer)[1])
        self._metrics.batch(len(images))
        return answers

    async def predict_together(
        self, request: PredictionRequest, images: Sequence[Image], accept: Callable[[ServedModel], None]
    ) -> tuple[ServedModel, list[Answer]]:
        """Predict several images with one model, in order; an unusable image fails the request.

        Args:
            accept: Called with a model before it is used; raises if the model cannot answer the request.

        Returns:
            The model that answered, and its answers.

        Raises:
            ImageError: An image cannot be used.
            UploadTooLarge: An image exceeds what the model accepts.
            OptionError: The task has no such option.
            ModelFailed: The model failed.
            Overloaded: The queue is full.
            DeadlineMissed: There is no answer by the deadline.
            TimeLimitExceeded: There is no answer to all of them within the time limit.
        """
        choice = request.choice
        answers = await self._together(request, images, accept)
        if any(answer.served is not choice.served for answer in answers):
            # The canary failed on an image, so the champion repeats all: one response has one model.
            choice = Choice(choice.champion or choice.served, arm=_FALLBACK if choice.arm else "")
            answers = await self._together(dataclasses.replace(request, choice=choice), images, accept)
        if any(records := [answer.record for answer in answers]):
            # Records are written only now, when it is certain which model answers.
            await asyncio.to_thread(self._recorder.keep, records)
        for answer in answers:
            self._metrics.prediction(choice.served.ref.name, answer.prediction, answer.timing_ms)
        self._metrics.batch(len(answers))
        return choice.served, answers

    async def _together(
        self, request: PredictionRequest, images: Sequence[Image], accept: Callable[[ServedModel], None]
    ) -> list[Answer]:
        accept(request.choice.served)
        return await self._dispatcher.run_all(
            [functools.partial(self._numbered, request, image, number) for number, image in enumerate(images, start=1)],
            deadline=request.deadline,
            kind=request.choice.served.digest,
        )

    # On the threads of the dispatcher

    def _attempt(self, request: PredictionRequest, image: Image, number: int) -> Answer | Refused:
        try:
            _check_size(request.choice.served, image, where := f"image {number}")
            return self._keep(request, image, where=where, record_id=f"{request.request_id}/{number}")
        except (ImageError, UploadTooLarge, ModelFailed) as error:
            return error

    def _numbered(self, request: PredictionRequest, image: Image, number: int) -> Answer:
        _check_size(request.choice.served, image, where := f"image {number}")
        return self._answer(request, image, where=where, record_id=f"{request.request_id}/{number}")

    def _keep(self, request: PredictionRequest, image: Image, *, where: str, record_id: str) -> Answer:
        """Predict, record and encode one image; the answer does not change afterwards."""
        answer = self._answer(request, image, where=where, record_id=record_id)
        self._recorder.keep([answer.record])
        body = orjson.dumps(answer.served.answer(answer.prediction, answer.timing_ms))
        return dataclasses.replace(answer, json=body, record=None)

    def _answer(self, request: PredictionRequest, image: Image, *, where: str, record_id: str) -> Answer:
        start = time.perf_counter()
        timing: dict[str, float] = {}
        seen = self._recorder.capture()
        served, prediction = self._models.predict(
            request.choice, image, request.options, timing=timing, where=where, watch=seen
        )
        timing["total"] = (time.perf_counter() - start) * 1000
        arm = request.choice.arm if served is request.choice.served else _FALLBACK
        record = self._recorder.record(image, seen, record_id, served, timing["total"], request.source, arm)
        return Answer(served, prediction, timing, record=record)


def _check_size(served: ServedModel, image: Image, where: str) -> None:
    limit = served.ref.max_upload_bytes
    if isinstance(image, bytes) and len(image) > limit:
        raise UploadTooLarge(f"{where}: exceeds {limit} bytes; send a smaller file or raise max_upload_bytes")
