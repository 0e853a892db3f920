"""The contract between the pipelines and what is learned."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.home import visionops_home
from visionops.inference.bundle import ModelBundle

__all__ = ["Evaluation", "NoLog", "Task", "TrainingLog", "evaluation_folder", "training_folder"]


class TrainingLog(Protocol):
    """Where training reports to (MLflow, in a pipeline)."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Log what the trainer was really given."""

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log one epoch."""

    def artifact(self, path: Path, folder: str) -> None:
        """Log a file (a picture, a table) under ``folder``."""

    def progress(self, done: int, total: int, note: str) -> None:
        """So many epochs of so many are done; the note says how it goes."""


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

    ``folder`` holds ``evaluation.json`` (this object), ``report.html`` (self-contained) and the pictures.
    """

    folder: Path
    metrics: dict[str, float]
    """Over all classes: ``map50``, ``map50_95``, ``precision``, ``recall``, ``latency_ms_p50``, ``latency_ms_p95``."""
    per_class: dict[str, dict[str, float]]
    """Class name to ``map50``, ``map50_95``, ``precision``, ``recall``, ``instances``."""
    num_images: int
    test_fingerprint: str
    """Of the test split: two evaluations compare only when it is equal."""
    bundle_digest: str
    engine: str
    precision: str


class Task(Protocol):
    """One kind of learning problem."""

    def train(self, dataset: Dataset, config: Config, work: Path, log: TrainingLog) -> ModelBundle:
        """Train on the train split, select on the val split, export.

        Args:
            dataset: Clean and split.
            work: A folder of this training alone. What an interrupted call left there is resumed.

        Returns:
            A sealed bundle in ``work / "bundle"``.
        """

    def evaluate(self, bundle: ModelBundle, dataset: Dataset, config: Config, folder: Path) -> Evaluation:
        """Score the bundle on the test split of ``dataset`` and write pictures and report into ``folder``."""


def training_folder(dataset: Dataset, config: Config) -> Path:
    """Where the training of ``config`` on ``dataset`` works: the same for the same, so that it can be resumed."""
    told = config.only("training", "serving").model_dump_json()
    key = hashlib.sha256(f"{dataset.fingerprint()} {told}".encode()).hexdigest()[:16]
    return visionops_home() / "training" / f"{config.name}-{key}"


def evaluation_folder(bundle: ModelBundle, dataset: Dataset) -> Path:
    """Where the evaluation of ``bundle`` on ``dataset`` is written before it becomes an artifact."""
    key = hashlib.sha256(f"{bundle.digest} {dataset.fingerprint()}".encode()).hexdigest()[:16]
    return visionops_home() / "evaluation" / f"{bundle.card.name}-{key}"
