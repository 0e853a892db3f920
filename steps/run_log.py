"""Implement `TrainingLog` with the tracker's run that is open for the step, and with Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steps.progress import Report
from visionops.monitoring.curves import TrainingCurves
from visionops.tracking import RunTracker

__all__ = ["RunLog"]


class RunLog:
    """Log of one training's parameters, metrics per epoch and files, which also prints epochs to the terminal."""

    def __init__(self, run: RunTracker, report: Report, curves: TrainingCurves | None = None) -> None:
        self._run = run
        self._report = report
        self._curves = curves

    def params(self, params: Mapping[str, Any]) -> None:
        """Log the trainer's actual parameters."""
        self._run.params(params)

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one epoch."""
        self._run.metrics(metrics, step)
        if self._curves is not None:
            self._curves.epoch(metrics, step)

    def artifact(self, path: Path, folder: str) -> None:
        """Log one file."""
        self._run.artifact(path, folder)

    def progress(self, done: int, total: int, note: str) -> None:
        """Update the progress bar."""
        self._report(done, note, total)
