"""Settings of a training of any task, and the part of them that its data conversion reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from visionops.inference.task_registry import all_tasks
from visionops.open_union import OpenUnion
from visionops.settings import Settings
from visionops.tasks.training_settings import TrainingBase

__all__ = ["ConversionPlan", "Training"]


def _all_settings() -> Sequence[type[TrainingBase]]:
    # Looked up by name, because `TaskSpec` itself converts data sets with these settings. A served-only task has none.
    return [settings for task in all_tasks() if (settings := getattr(task, "settings", None)) is not None]


Training = Annotated[TrainingBase, OpenUnion("task", _all_settings)]
"""Settings for training any registered task, selected by ``task``."""


class ConversionPlan(Settings):
    """Settings of a use case that the conversion of its data set reads."""

    training: Training
    """Only the settings on which the conversion depends; all others have their defaults."""

    @property
    def task(self) -> str:
        """Return the name of the task."""
        return self.training.task
