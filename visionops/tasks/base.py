"""The contract between the pipelines and what is learned."""

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
    "alone_in",
    "evaluation_folder",
    "training_folder",
]


class StopTraining(BaseException):
    """Raised by a `TrainingLog`: this training is not worth going on with.

    No `Exception`, for the reason that `asyncio.CancelledError` is none: a trainer that explains whatever went wrong
    must let it pass.
    """


class TrainingLog(Protocol):
    """Where training reports to (MLflow, in a pipeline). `metrics` may raise `StopTraining`."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Log what the trainer was really given."""

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one epoch; ``val_`` before the names in `visionops.tasks.spec.TaskSpec.metrics`."""

    def artifact(self, path: Path, folder: str) -> None:
        """Log a file (a picture, a table) under ``folder``."""

    def progress(self, done: int, total: int, note: str) -> None:
        """So many epochs (or images, where features are computed) of so many are done; the note says how it goes."""


class NoLog:
    """A log that keeps nothing."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Drop."""

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop."""

    def artifact(self, path: Path, folder: str) -> None:
        """Drop."""

    def progress(self, done: int, total: int, note: str) -> None:
        """Drop."""


def training_folder(dataset: Dataset, plan: TrainingPlan) -> Path:
    """Return where the training of ``plan`` on ``dataset`` works: the same for the same, so that it can be resumed."""
    identity = json.dumps(plan.identity())
    key = hashlib.sha256(f"{dataset.fingerprint()} {identity}".encode()).hexdigest()[:16]
    return visionops_home() / "training" / f"{plan.name}-{key}"


@contextlib.contextmanager
def alone_in(work: Path) -> Iterator[None]:
    """One training (or search) at a time; the system gives the lock back when a process dies.

    Raises:
        TrainingError: Another process is at work there.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(f"{work}: the same training runs already; wait for it or stop it") from error
        yield


def evaluation_folder(bundle: ModelBundle, dataset: Dataset) -> Path:
    """Where the evaluation of ``bundle`` on ``dataset`` is written before it becomes an artifact."""
    key = hashlib.sha256(f"{bundle.digest} {dataset.fingerprint()}".encode()).hexdigest()[:16]
    return visionops_home() / "evaluation" / f"{bundle.card.name}-{key}"
