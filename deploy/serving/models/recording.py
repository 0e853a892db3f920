"""What the server remembers of its predictions, where it is told to."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from deploy.serving.metrics import NO_RECORD, Metrics
from deploy.serving.models.models import ServedModel
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image
from visionops.monitoring.images import ImageSamples

if TYPE_CHECKING:
    from visionops.monitoring.log import PredictionLog

__all__ = ["Recorder", "Remembered", "Seen"]

_log = logging.getLogger("visionops.serving")


@dataclasses.dataclass(slots=True)
class Seen:
    """Keeps what a predictor saw and found in one image, to be given to it as ``watch``."""

    found: tuple[npt.NDArray[np.uint8], Prediction] | None = None
    """Pixels, uint8 (H, W, 3), and the prediction at the thresholds of the bundle's card."""

    def __call__(self, rgb: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        """Keep both."""
        self.found = rgb, prediction


class Remembered(NamedTuple):
    """One prediction, not yet kept."""

    record: dict[str, Any]
    image: bytes | None
    """The encoded file, where it is among the sampled ones."""


class Recorder:
    """Makes records of predictions and keeps them. No prediction fails for it. Safe to call from several threads.

    Args:
        log: None: nothing is remembered.
        images: None: records only.
    """

    def __init__(self, log: PredictionLog | None, metrics: Metrics, images: ImageSamples | None = None) -> None:
        self._log = log
        self._metrics = metrics
        self._images = images

    def eye(self) -> Seen | None:
        """What is to see one image and its prediction."""
        return Seen() if self._log else None

    def record(
        self,
        image: Image,
        seen: Seen | None,
        request_id: str,
        served: ServedModel,
        latency_ms: float,
    ) -> Remembered | None:
        """What is remembered of one prediction, not yet kept; None where nothing is.

        It is the prediction at the thresholds of the bundle's card, as the reference is: neither a client's ``conf``
        nor an edited ``serving.confidence`` may look like drift.

        Args:
            image: As the client sent it. Pixels are not kept as a file: there is none.
            latency_ms: From the encoded image to the prediction.
        """
        if seen is None or seen.found is None:
            return None
        rgb, prediction = seen.found
        # Not above: with them comes pyarrow, which a server without a log does not wait for.
        from visionops.monitoring.features import describe_image
        from visionops.monitoring.record import record_of

        try:
            record = {
                "time": datetime.now(UTC),
                "request_id": request_id,
                "model": served.ref.name,
                "version": served.ref.version,
                "digest": served.digest,
                "latency_ms": latency_ms,
                **record_of(prediction, *describe_image(rgb)),
            }
        except Exception:  # noqa: BLE001 - logged in full; whatever it is, the prediction is answered
            _log.exception("record_failed", extra={"fields": {"request_id": request_id}})
            self._metrics.recorded(NO_RECORD)
            return None
        is_sampled = self._images is not None and self._images.wants(request_id)
        return Remembered(record, image if is_sampled and isinstance(image, bytes) else None)

    def keep(self, predictions: Iterable[Remembered | None]) -> None:
        """Write them. When this returns, a killed process leaves the records behind, unless the log has a problem."""
        for remembered in predictions:
            if self._log and remembered:
                record, image = remembered
                if self._images and image is not None:
                    record["image"] = self._images.keep(image, record["request_id"], record["time"])
                self._log.append(record)

    def status(self) -> dict[str, str]:
        """How the log is, for `/ready`; empty without one."""
        if self._log is None:
            return {}
        return {"prediction_log": self._log.problem or (self._images and self._images.problem) or "ok"}

    def close(self) -> None:
        """Write what waits."""
        if self._images:
            self._images.close()
        if self._log:
            self._log.close()
