"""Comparisons: a shadow computes what the champion has answered, and the champion what a canary has.

They are made on one thread of their own behind a short queue. No answer waits for them: what finds the queue full is
dropped, and counted.
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

__all__ = ["Answered", "Comparison", "Shadows", "compute_seconds"]

_log = logging.getLogger("visionops.serving")
_QUEUE = 16
_STAGES = ("preprocess", "inference", "postprocess")


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """What a model was asked and said."""

    image: Image
    options: Mapping[str, float]
    prediction: Prediction
    timing_ms: Mapping[str, float]


class Comparison(Protocol):
    """What follows of comparing the answer of one model with another's."""

    def compared(self, agreement: float, seconds: float, other_seconds: float) -> None:
        """Both computed the image: how far they agree, 0 to 1, and what each took, decoding not counted."""

    def not_compared(self, outcome: str) -> None:
        """The other model did not compute it: "failed", "dropped"."""


class Shadows:
    """Compares, one image at a time."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[ServedModel, Answered, Comparison] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, other: ServedModel, answered: Answered, comparison: Comparison) -> None:
        """Compare with ``other`` when there is time, or never."""
        try:
            self._queue.put_nowait((other, answered, comparison))
        except queue.Full:
            comparison.not_compared("dropped")

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
            other, answered, comparison = job
            try:
                _compare(other, answered, comparison)
            except (ModelFailed, VisionOpsError):
                comparison.not_compared("failed")
            except Exception:  # noqa: BLE001 - logged in full; the thread goes on for the next image
                _log.exception("shadow_failed", extra={"fields": other.identity})
                comparison.not_compared("failed")
            del job, other, answered, comparison  # while this waits, nothing may hold a model that was replaced


def _compare(other: ServedModel, answered: Answered, comparison: Comparison) -> None:
    timing: dict[str, float] = {}
    prediction = other.predict(answered.image, answered.options, timing=timing, where="upload")
    comparison.compared(
        answered.prediction.agreement(prediction), compute_seconds(answered.timing_ms), compute_seconds(timing)
    )


def compute_seconds(timing_ms: Mapping[str, float]) -> float:
    """Return what a model took for one image, decoding not counted."""
    return sum(timing_ms[stage] for stage in _STAGES) / 1000
