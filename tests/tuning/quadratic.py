"""A task without training: the quality of its bundle is computed from the settings, in milliseconds."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from pathlib import Path
from typing import Any

from tests.helpers.bundles import make_bundle
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.errors import TrainingError
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.tasks.base import TrainingLog, locked_folder
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.settings import TrainingPlan
from visionops.tuning.data import SearchData
from visionops.tuning.result import Trial
from visionops.tuning.settings import SearchPlan

BEST_RATE = 0.003


def score(training: Any) -> float:
    """Return 1 at a learning rate of 0.003 and batch 8, less with the distance in orders of magnitude and in
    batches."""
    distance = math.log10(training.learning_rate / BEST_RATE)
    return round(max(1 - 0.3 * distance**2 - 0.002 * abs(training.batch - 8), 0.0), 6)


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """A `Task` that can be sent to other processes."""

    diary: Path
    """File with a line for each training that began."""
    fails_at: tuple[int, ...] = ()
    """Batch sizes with which a training fails."""
    dies_at: int = 0
    """Batch size with which the process is killed once, after its second epoch."""
    metric: str = "map50"

    def train(self, converted: ConvertedDataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        training = plan.training
        with locked_folder(work):
            (work / "checkpoint").touch()
            with self.diary.open("a", encoding="utf-8") as diary:
                diary.write(f"{os.getpid()} {training.learning_rate!r} {training.batch}\n")
            if training.batch in self.fails_at:
                (work / "trainer.log").write_text("it diverged")
                raise TrainingError("the loss is not a number")
            for epoch in range(1, training.epochs + 1):
                value = score(training) * (1 - 0.5**epoch)
                log.metrics({f"val_{self.metric}": value, "train_loss": 1.0}, epoch)
                log.progress(epoch, training.epochs, f"val {value:.3f}")
                if epoch == 2 and training.batch == self.dies_at and not (work / "died").exists():
                    (work / "died").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return make_bundle(work / "bundle", metrics={self.metric: score(training)})

    def evaluate(self, bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path) -> Evaluation:
        raise NotImplementedError

    def trainings(self) -> list[str]:
        return self.diary.read_text(encoding="utf-8").splitlines() if self.diary.exists() else []


class Notes:
    """A `TuningLog` that records all reports."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.lines: list[tuple[int, int, str]] = []

    def trial(self, trial: Trial) -> None:
        self.trials.append(trial)

    def progress(self, done: int, total: int, note: str) -> None:
        self.lines.append((done, total, note))


def dataset() -> Dataset:
    images = {"key": [f"{i}.png" for i in range(6)], "sha256": [f"{i}" * 64 for i in range(6)]}
    return Dataset.from_columns("toy", ("a",), {**images, "split": ["train"] * 4 + ["val", "test"]}, {})


def search_data(plan: SearchPlan) -> SearchData:
    """Return the data for a search of `Quadratic`, which no trial reads."""
    return SearchData(ConvertedDataset(dataset(), plan.plan.conversion, Path("nowhere")), dataset)


def search_plan(tuning: dict[str, Any], **training: Any) -> SearchPlan:
    return Config.model_validate(
        {
            "name": "toy",
            "data": {"source": {"kind": "folder", "path": "images"}},
            "training": {"epochs": 8, "learning_rate": 0.1, "batch": 16} | training,
            "tuning": tuning,
        }
    ).search_plan
