"""Interfaces between the pipelines and the tasks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from visionops.data.dataset import Dataset
from visionops.errors import TrainingError
from visionops.home import visionops_home
from visionops.inference.bundle import ModelBundle
from visionops.tasks.settings import TrainingPlan

__all__ = [
    "NoLog",
    "StopTraining",
    "TrainingLog",
    "evaluation_folder",
    "locked_folder",
    "training_folder",
]


class StopTraining(BaseException):
    """Raised by a `TrainingLog` to stop a training that is not worth continuing.

    Not an `Exception`, like `asyncio.CancelledError`, so that a trainer that reports all errors lets it pass.
    """


class TrainingLog(Protocol):
    """Log to which a training reports (MLflow, in a pipeline). `metrics` may raise `StopTraining`."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Log the effective settings of the trainer."""

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one epoch; names are ``val_`` and a name of `visionops.tasks.spec.TaskSpec.metrics`."""

    def artifact(self, path: Path, folder: str) -> None:
        """Log a file (a picture, a table) under ``folder``."""

    def progress(self, done: int, total: int, note: str) -> None:
        """Report the number of finished epochs (or images, where features are computed) of the total, with a note."""


class NoLog:
    """A log that discards everything."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Discard."""

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Discard."""

    def artifact(self, path: Path, folder: str) -> None:
        """Discard."""

    def progress(self, done: int, total: int, note: str) -> None:
        """Discard."""


def training_folder(dataset: Dataset, plan: TrainingPlan) -> Path:
    """Return the folder for training ``plan`` on ``dataset``; equal for equal inputs, so that training can resume."""
    identity = json.dumps(plan.identity())
    key = hashlib.sha256(f"{dataset.fingerprint()} {identity}".encode()).hexdigest()[:16]
    return visionops_home() / "training" / f"{plan.name}-{key}"


@contextlib.contextmanager
def locked_folder(work: Path) -> Iterator[None]:
    """Allow one training (or search) in a folder at a time; the lock is released when its process ends.

    Raises:
        TrainingError: Another process is working there.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"{work}: the same training is already running; wait for it or stop it") from error
        yield


def evaluation_folder(bundle: ModelBundle, dataset: Dataset) -> Path:
    """Return the folder for the evaluation of ``bundle`` on ``dataset`` before it becomes an artifact."""
    key = hashlib.sha256(f"{bundle.digest} {dataset.fingerprint()}".encode()).hexdigest()[:16]
    return visionops_home() / "evaluation" / f"{bundle.card.name}-{key}"
