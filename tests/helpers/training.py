"""Train from a prepared data set, with a `TrainingLog` that records all reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from visionops.data.dataset import Dataset
from visionops.inference.bundle import ModelBundle
from visionops.tasks.base import TrainingLog
from visionops.tasks.conversion import convert
from visionops.tasks.settings import TrainingPlan

__all__ = ["Recorder", "convert_and_train"]


def convert_and_train(
    train: Callable[..., ModelBundle], dataset: Dataset, plan: TrainingPlan, work: Path, log: TrainingLog
) -> ModelBundle:
    """Run `TaskSpec.train` on ``dataset``, converted beside ``work``."""
    place = next(folder for folder in work.parents if folder.is_dir())
    converted = convert(dataset, plan.conversion, place / f"{work.name}-converted", log.progress)
    return train(converted, plan, work, log)


class Recorder:
    """A `TrainingLog` that records all reports."""

    def __init__(self) -> None:
        self.reported: list[dict[str, Any]] = []
        self.by_epoch: dict[int, dict[str, float]] = {}
        self.files: list[str] = []
        self.steps: list[tuple[int, int]] = []
        self.notes: list[str] = []

    def params(self, params: Mapping[str, Any]) -> None:
        self.reported.append(dict(params))

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        assert step not in self.by_epoch
        self.by_epoch[step] = dict(metrics)

    def artifact(self, path: Path, folder: str) -> None:
        assert path.is_file()
        self.files.append(f"{folder}/{path.name}")

    def progress(self, done: int, total: int, note: str) -> None:
        assert 0 <= done <= total
        self.steps.append((done, total))
        self.notes.append(f"{note} ({done} of {total})")
