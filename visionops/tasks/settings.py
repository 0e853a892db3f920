"""All that a training reads of a use case."""

from __future__ import annotations

from typing import Any

from visionops.data.settings import ValidationPolicy
from visionops.inference.record_rules import RecordRules
from visionops.inference.settings import ServingConfig
from visionops.settings import Settings
from visionops.tasks.conversion_plan import ConversionPlan, Training

__all__ = ["TrainingPlan"]


class TrainingPlan(Settings):
    """All that a training reads of a use case."""

    name: str
    """Of the use case."""
    training: Training
    serving: ServingConfig
    """The bundle's thresholds and precision, and the engine that its figures come from."""
    validation: ValidationPolicy
    records: RecordRules = RecordRules()
    """What the reference in the bundle, and every later record, holds beside the task's own columns."""

    @property
    def task(self) -> str:
        """What is learned."""
        return self.training.task

    @property
    def conversion(self) -> ConversionPlan:
        """What its data set is converted by: the same for trainings that can share one."""
        from visionops.tasks.spec import task_for

        read = {"task", *task_for(self.task).conversion_settings(self.training)}
        told = self.training.model_dump(mode="json", include=read)
        return ConversionPlan(training=type(self.training).model_validate(told))

    def identity(self) -> dict[str, Any]:
        """Return what decides the result, as JSON has it: two trainings with the same go on from one another.

        The validation policy only says which data are refused, and the rules of records what is written afterwards.
        """
        return self.model_dump(mode="json", exclude={"validation", "records"})
