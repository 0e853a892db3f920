"""Shadows: models that compute what the champion has answered, to be compared.

They work on one thread of their own behind a short queue. No answer waits for them: what finds the queue full is
dropped, and counted.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Mapping

from deploy.serving.errors import ModelFailed
from deploy.serving.models.model_metrics import ModelMetrics
from deploy.serving.models.models import ServedModel
from visionops.errors import VisionOpsError
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image

__all__ = ["Answered", "Shadows"]

_log = logging.getLogger("visionops.serving")
_QUEUE = 16
_STAGES = ("preprocess", "inference", "postprocess")


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """What the champion was asked and said."""

    image: Image
    options: Mapping[str, float]
    prediction: Prediction
    timing_ms: Mapping[str, float]


class Shadows:
    """Compares, one image at a time."""

    def __init__(self, metrics: ModelMetrics) -> None:
        self._metrics = metrics
        self._queue: queue.Queue[tuple[ServedModel, Answered] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, shadow: ServedModel, answered: Answered) -> None:
        """Compare when there is time, or never."""
        try:
            self._queue.put_nowait((shadow, answered))
        except queue.Full:
            self._metrics.shadow(shadow.ref.name, "dropped")

    def close(self) -> None:
        """Drop what waits, and wait for the one in work."""
        while self._thread.is_alive():
            try:
                self._queue.put_nowait(None)
                self._thread.join()
            except queue.Full:
                self._queue.get_nowait()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            shadow, answered = job
            try:
                self._compare(shadow, answered)
            except (ModelFailed, VisionOpsError):
                self._metrics.shadow(shadow.ref.name, "failed")
            except Exception:  # noqa: BLE001 - logged in full; the thread goes on for the next image
                _log.exception("shadow_failed", extra={"fields": shadow.identity})
                self._metrics.shadow(shadow.ref.name, "failed")
            del job, shadow, answered  # while this waits, nothing may hold a model that was replaced

    def _compare(self, shadow: ServedModel, answered: Answered) -> None:
        timing: dict[str, float] = {}
        prediction = shadow.predict(answered.image, answered.options, timing=timing, where="upload")
        theirs, ours = (sum(t[stage] for stage in _STAGES) / 1000 for t in (answered.timing_ms, timing))
        self._metrics.compared(shadow.ref.name, answered.prediction.agreement(prediction), theirs, ours)
