"""Detectors: boxes with classes, learned with Ultralytics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from visionops.data.dataset import Dataset
    from visionops.evaluation.settings import Scoring
    from visionops.inference.bundle import ModelBundle
    from visionops.tasks.base import Evaluation, TrainingLog
    from visionops.tasks.settings import TrainingPlan

__all__ = ["DetectionTask"]


class DetectionTask:
    """The `Task` of finding objects. What is heavy is imported when it is called for."""

    def train(self, dataset: Dataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """See `visionops.tasks.detection.training.train_detector`."""
        from visionops.tasks.detection.library import prepare_library

        prepare_library()
        from visionops.tasks.detection.training import train_detector

        return train_detector(dataset, plan, work, log)

    def evaluate(self, bundle: ModelBundle, dataset: Dataset, scoring: Scoring, folder: Path | None) -> Evaluation:
        """See `visionops.evaluation.detection.evaluate`."""
        from visionops.evaluation.detection import evaluate

        return evaluate(bundle, dataset, scoring, folder)
