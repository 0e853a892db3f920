"""The contract between the pipelines and what is learned."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from visionops.data.dataset import Dataset
from visionops.errors import TrainingError
from visionops.evaluation.settings import Scoring
from visionops.home import visionops_home
from visionops.inference.bundle import ModelBundle
from visionops.tasks.settings import TrainingPlan

__all__ = [
    "Evaluation",
    "NoLog",
    "StopTraining",
    "Task",
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
        """Log one epoch; ``val_`` before the names in `visionops.tasks.settings.METRICS`."""

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


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a bundle is on the test split, measured with the engine that will serve it.

    ``folder`` holds ``evaluation.json`` (this object), ``report.html`` (self-contained) and the pictures; it is
    an empty path where only the figures were wanted.
    """

    folder: Path
    metrics: dict[str, float]
    """Over all classes: `visionops.tasks.settings.METRICS` of the task, ``latency_ms_p50``, ``latency_ms_p95`` and
    more."""
    per_class: dict[str, dict[str, float]]
    """Class (boxes, classification) or attribute name to its figures; NaN where one is not defined."""
    num_images: int
    test_fingerprint: str
    """Of the test split: two evaluations compare only when it is equal."""
    bundle_digest: str
    engine: str
    precision: str
    headline: tuple[str, ...] = ("map50", "map50_95", "precision", "recall")
    """The metrics that a person looks at first."""
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Metric to its 95 % confidence interval, where the task resamples."""
    replicates: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Metric to its value on each bootstrap resample of the test images. The draws depend on the number of images and
    resamples alone, so that two evaluations on one test split can be compared draw by draw."""


class Task(Protocol):
    """One kind of learning problem."""

    def train(self, dataset: Dataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """Train on the train split, select on the val split, export.

        Args:
            dataset: Clean and split.
            work: A folder of this training alone. What an interrupted call left there is resumed.

        Returns:
            A sealed bundle in ``work / "bundle"``; its card has `visionops.tasks.settings.METRICS` of the val split.
        """

    def evaluate(self, bundle: ModelBundle, dataset: Dataset, scoring: Scoring, folder: Path | None) -> Evaluation:
        """Score the bundle on the test split of ``dataset``; with a folder, write pictures and report into it."""


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
