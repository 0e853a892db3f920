"""What the server remembers of its predictions, where it is told to."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deploy.serving.metrics import NO_RECORD, Metrics
from deploy.serving.models import ServedModel
from visionops.inference.prediction import Prediction

if TYPE_CHECKING:
    from visionops.monitoring.log import PredictionLog

__all__ = ["Recorder", "Seen"]

_log = logging.getLogger("visionops.serving")


@dataclasses.dataclass(slots=True)
class Seen:
    """Keeps the pixels that a predictor saw, to be given to it as ``watch``."""

    rgb: npt.NDArray[np.uint8] | None = None
    """uint8 (H, W, 3)."""

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> None:
        """These are the pixels."""
        self.rgb = rgb


class Recorder:
    """Makes records of predictions and keeps them. No prediction fails for it. Safe to call from several threads.

    Args:
        log: None: nothing is remembered.
    """

    def __init__(self, log: PredictionLog | None, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics

    def eye(self) -> Seen | None:
        """What is to see the pixels of one image."""
        return Seen() if self._log else None

    def record(
        self, seen: Seen | None, request_id: str, served: ServedModel, prediction: Prediction, latency_ms: float
    ) -> dict[str, Any] | None:
        """What is remembered of one prediction, not yet kept; None where nothing is.

        Args:
            latency_ms: From the encoded image to the prediction.
        """
        if seen is None or seen.rgb is None:
            return None
        # Not above: with them comes pyarrow, which a server without a log does not wait for.
        from visionops.monitoring.features import describe_image
        from visionops.monitoring.record import record_of

        try:
            return {
                "time": datetime.now(UTC),
                "request_id": request_id,
                "model": served.ref.name,
                "version": served.ref.version,
                "digest": served.digest,
                "latency_ms": latency_ms,
                **record_of(prediction, *describe_image(seen.rgb)),
            }
        except Exception:  # noqa: BLE001 - logged in full; whatever it is, the prediction is answered
            _log.exception("record_failed", extra={"fields": {"request_id": request_id}})
            self._metrics.recorded(NO_RECORD)
            return None

    def keep(self, records: Iterable[dict[str, Any] | None]) -> None:
        """Write them. When this returns, a killed process leaves them behind, unless the log has a problem."""
        for record in records:
            if self._log and record:
                self._log.append(record)

    def status(self) -> dict[str, str]:
        """How the log is, for `/ready`; empty without one."""
        return {"prediction_log": self._log.problem or "ok"} if self._log else {}

    def close(self) -> None:
        """Write what waits."""
        if self._log:
            self._log.close()
