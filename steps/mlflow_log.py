"""`TrainingLog` on the MLflow run that ZenML's tracker has opened for the step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow

from steps.progress import Report

__all__ = ["MlflowLog"]


class MlflowLog:
    """Parameters, metrics per epoch and files of one training; epochs on the terminal too."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def params(self, params: Mapping[str, Any]) -> None:
        """Log what the trainer was really given; MLflow takes 6,000 characters a value."""
        mlflow.log_params({key: str(value)[:6000] for key, value in params.items()})

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one epoch."""
        mlflow.log_metrics(dict(metrics), step=step)

    def artifact(self, path: Path, folder: str) -> None:
        """Log one file."""
        mlflow.log_artifact(str(path), artifact_path=folder)

    def progress(self, done: int, total: int, note: str) -> None:
        """Move the bar."""
        self._report(done, note, total)
