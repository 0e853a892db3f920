"""The settings of a training, of whatever task, and what the conversion of its data set reads of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from visionops.inference.task_registry import all_tasks
from visionops.open_union import OpenUnion
from visionops.settings import Settings
from visionops.tasks.training_settings import TrainingBase

__all__ = ["ConversionPlan", "Training"]


def _all_settings() -> Sequence[type[TrainingBase]]:
    # By name: `TaskSpec` itself converts data sets by these settings. A task that is only served has none.
    return [settings for task in all_tasks() if (settings := getattr(task, "settings", None)) is not None]


Training = Annotated[TrainingBase, OpenUnion("task", _all_settings)]
"""The settings of one task's training: of whichever is registered, chosen by ``task``."""


class ConversionPlan(Settings):
    """All that the conversion of a data set for its trainer reads of a use case."""

    training: Training
    """Only the settings that the conversion depends on; all others stand at their defaults."""

    @property
    def task(self) -> str:
        """What is learned."""
        return self.training.task
