"""The settings of a training, by task, and what each task is judged by."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from visionops.data.settings import ValidationPolicy
from visionops.inference.settings import ServingConfig, Task
from visionops.settings import Settings
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.labels.settings import LabelTraining

__all__ = ["METRICS", "Training", "TrainingPlan"]

Training = Annotated[DetectionTraining | LabelTraining, Field(discriminator="task")]


METRICS: dict[Task, tuple[str, ...]] = {
    Task.DETECTION: ("map50", "map50_95", "precision", "recall"),
    Task.CLASSIFICATION: ("balanced_accuracy", "accuracy", "f1", "roc_auc", "pr_auc"),
    Task.ATTRIBUTES: ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc"),
}
"""What each task can be judged by, on val (tuning) and test (the gate); the first is the default."""


class TrainingPlan(Settings):
    """All that a training reads of a use case."""

    name: str
    """Of the use case."""
    training: Training
    serving: ServingConfig
    """The bundle's thresholds and precision, and the engine that its figures come from."""
    validation: ValidationPolicy

    @property
    def task(self) -> Task:
        """What is learned."""
        return self.training.task

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, as JSON has it: two trainings with the same go on from one another.

        The validation policy only says which data are refused.
        """
        return self.model_dump(mode="json", exclude={"validation"})
