"""Compare models in the background: a shadow computes the champion's images, and the champion a canary's images.

Comparisons run on one separate thread with a short queue. No answer waits for them: if the queue is full, the image is
dropped and counted.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Mapping
from typing import Protocol

from deploy.serving.errors import ModelFailed
from deploy.serving.models.models import ServedModel
from visionops.errors import VisionOpsError
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image

__all__ = ["AnsweredImage", "Comparison", "Shadows", "compute_seconds"]

_log = logging.getLogger("visionops.serving")
_QUEUE = 16
_STAGES = ("preprocess", "inference", "postprocess")


@dataclasses.dataclass(frozen=True, slots=True)
class AnsweredImage:
    """Request and answer of a model for one image."""

    image: Image
    options: Mapping[str, float]
    prediction: Prediction
    timing_ms: Mapping[str, float]


class Comparison(Protocol):
    """Receiver of the result of a comparison."""

    def compared(self, agreement: float, seconds: float, other_seconds: float) -> None:
        """Record that both computed the image: their agreement, 0 to 1, and the seconds of each without decoding."""

    def not_compared(self, outcome: str) -> None:
        """Record that the other model did not compute the image; ``outcome`` is "failed" or "dropped"."""


class Shadows:
    """Compare one image at a time."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[ServedModel, AnsweredImage, Comparison] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, other: ServedModel, answered: AnsweredImage, comparison: Comparison) -> None:
        """Queue a comparison with ``other``, or drop it if the queue is full."""
        try:
            self._queue.put_nowait((other, answered, comparison))
        except queue.Full:
            comparison.not_compared("dropped")

    def close(self) -> None:
        """Drop queued comparisons, and wait for the running one."""
        while self._thread.is_alive():
            try:
                self._queue.put_nowait(None)
                self._thread.join()
            except queue.Full:
                self._queue.get_nowait()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            other, answered, comparison = job
            try:
                _compare(other, answered, comparison)
            except (ModelFailed, VisionOpsError):
                comparison.not_compared("failed")
            except Exception:  # noqa: BLE001 - logged in full; the thread continues with the next image
                _log.exception("shadow_failed", extra={"fields": other.identity})
                comparison.not_compared("failed")
            del job, other, answered, comparison  # so that a replaced model is freed while this thread waits


def _compare(other: ServedModel, answered: AnsweredImage, comparison: Comparison) -> None:
    timing: dict[str, float] = {}
    prediction = other.predict(answered.image, answered.options, timing=timing, where="upload")
    comparison.compared(
        answered.prediction.agreement(prediction), compute_seconds(answered.timing_ms), compute_seconds(timing)
    )


def compute_seconds(timing_ms: Mapping[str, float]) -> float:
    """Return the seconds of a model for one image, without decoding."""
    return sum(timing_ms[stage] for stage in _STAGES) / 1000
