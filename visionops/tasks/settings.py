"""The settings of a training, by task, and what each task is judged by."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from visionops.inference.settings import Task
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.labels.settings import LabelTraining

__all__ = ["METRICS", "Training"]

Training = Annotated[DetectionTraining | LabelTraining, Field(discriminator="task")]


METRICS: dict[Task, tuple[str, ...]] = {
    Task.DETECTION: ("map50", "map50_95", "precision", "recall"),
    Task.CLASSIFICATION: ("balanced_accuracy", "accuracy", "f1", "roc_auc", "pr_auc"),
    Task.ATTRIBUTES: ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc"),
}
"""What each task can be judged by, on val (tuning) and test (the gate); the first is the default."""
