"""Push the curves of a running training to Prometheus: each epoch replaces the one before on a Pushgateway.

Prometheus reads the gateway every few seconds, so its history of one gauge is the curve. A separate thread pushes, so a
gateway that hangs or is down does not slow the training.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any

from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway

__all__ = ["CURVES", "EPOCH_METRICS", "TrainingCurves"]

EPOCH_METRICS: Mapping[str, str] = {
    "visionops_training_epoch": "Last finished epoch of the training, from 1.",
    "visionops_training_epochs": "Maximum number of epochs of the training.",
    "visionops_training_epoch_timestamp_seconds": "Time when that epoch ended.",
    "visionops_training_learning_rate": "Learning rate of that epoch.",
    "visionops_training_loss": "Losses of that epoch.",
    "visionops_training_epoch_metric": "Metrics of that epoch, mostly on the val split.",
}
"""Gauges that a running training pushes, with their descriptions."""

CURVES: Mapping[str, str] = {"part": "epochs"}
"""Labels of the groups that hold curves."""

_MOST_NAMES = 50
"""Maximum number of pushed losses and metrics of an epoch, because a custom task may have a thousand."""
_PATIENCE_S = 5.0


class TrainingCurves:
    """Push each epoch of one training. Use it from one thread."""

    def __init__(
        self, gateway: Pushgateway, use_case: str, pipeline: str, epochs: int, patience: float = _PATIENCE_S
    ) -> None:
        """Set up the curves; the first epoch starts the thread.

        Args:
            epochs: Maximum number of epochs of the training.
            patience: Maximum seconds for one push, and for which `close` waits for the last one.
        """
        self._gateway, self._epochs, self._patience = gateway, epochs, patience
        self._group = {"use_case": use_case, "pipeline": pipeline, **CURVES}
        self._changed = threading.Condition()
        self._waiting: dict[str, Any] | None = None
        self._is_closed = False
        self._reported = self._lost = 0
        self._problem = ""
        self._thread: threading.Thread | None = None

    def epoch(self, metrics: Mapping[str, float], number: int) -> None:
        """Pass one epoch to the thread, replacing one that still waits; return at once."""
        if not self._gateway:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._push_all, name="training-curves", daemon=True)
            self._thread.start()
        with self._changed:
            self._reported += 1
            self._waiting = _figures(metrics, number, self._epochs)
            self._changed.notify()

    def close(self) -> str:
        """Wait a little for the last epoch.

        Returns:
            One line with the error and the number of lost epochs; "" without an error.
        """
        if self._thread is None:
            return ""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(self._patience)
        with self._changed:
            lost, problem = self._lost, self._problem
            if self._thread.is_alive():
                lost += 1
                problem = problem or f"Pushgateway {self._gateway.url}: accepts no metrics (no answer in time)"
        if not lost:
            return ""
        return f"{problem}; {lost} of {self._reported} epochs could not be pushed, but the training continued"

    def _push_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._is_closed)
                figures, self._waiting = self._waiting, None
            if figures is None:
                return
            try:
                self._gateway.push(self._group, figures, EPOCH_METRICS, replace=True, patience=self._patience)
            except StackError as error:
                with self._changed:
                    self._lost += 1
                    self._problem = str(error)


def _figures(metrics: Mapping[str, float], number: int, epochs: int) -> dict[str, Any]:
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    figures: dict[str, Any] = {
        "visionops_training_epoch": number,
        "visionops_training_epochs": epochs,
        "visionops_training_epoch_timestamp_seconds": time.time(),
    }
    if (rate := finite.pop("learning_rate", None)) is not None:
        figures["visionops_training_learning_rate"] = rate
    names = sorted(finite)[:_MOST_NAMES]
    losses = {(("loss", name),): finite[name] for name in names if name.endswith("loss")}
    others = {(("metric", name),): finite[name] for name in names if not name.endswith("loss")}
    return figures | {"visionops_training_loss": losses, "visionops_training_epoch_metric": others}
