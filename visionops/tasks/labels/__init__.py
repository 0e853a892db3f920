"""Labels of whole images: one (classification) or several (attributes). The first is the second with one head."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from visionops.data.dataset import Dataset
    from visionops.evaluation.settings import Scoring
    from visionops.inference.bundle import ModelBundle
    from visionops.tasks.base import Evaluation, TrainingLog
    from visionops.tasks.settings import TrainingPlan

__all__ = ["LabelTask"]


class LabelTask:
    """The `Task` of labelling images. What is heavy is imported when it is called for."""

    def train(self, dataset: Dataset, plan: TrainingPlan, work: Path, log: TrainingLog) -> ModelBundle:
        """See `visionops.tasks.labels.training.train_labels`."""
        from visionops.tasks.labels.training import train_labels

        return train_labels(dataset, plan, work, log)

    def evaluate(self, bundle: ModelBundle, dataset: Dataset, scoring: Scoring, folder: Path | None) -> Evaluation:
        """See `visionops.evaluation.labels.evaluate_labels`."""
        from visionops.evaluation.labels import evaluate_labels

        return evaluate_labels(bundle, dataset, scoring, folder)
