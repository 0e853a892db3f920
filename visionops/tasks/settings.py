"""Settings of a use case that a training reads."""

from __future__ import annotations

from typing import Any

from visionops.data.settings import ValidationPolicy
from visionops.inference.record_rules import RecordRules
from visionops.inference.settings import ServingConfig
from visionops.settings import Settings
from visionops.tasks.conversion_plan import ConversionPlan, Training

__all__ = ["TrainingPlan"]


class TrainingPlan(Settings):
    """Settings of a use case that a training reads."""

    name: str
    """Name of the use case."""
    training: Training
    serving: ServingConfig
    """Thresholds and precision of the bundle, and the engine that measures its metrics."""
    validation: ValidationPolicy
    records: RecordRules = RecordRules()
    """Additional columns in the reference of the bundle and in every later record."""

    @property
    def task(self) -> str:
        """Return the name of the task."""
        return self.training.task

    @property
    def conversion(self) -> ConversionPlan:
        """Return the settings of the data conversion; equal for trainings that can share one."""
        from visionops.tasks.spec import task_for

        read = {"task", *task_for(self.task).conversion_settings(self.training)}
        values = self.training.model_dump(mode="json", include=read)
        return ConversionPlan(training=type(self.training).model_validate(values))

    def identity(self) -> dict[str, Any]:
        """Return the settings that determine the result, as JSON values: trainings with equal ones resume each other.

        The validation policy only refuses data, and the rules of records only affect what is written afterwards.
        """
        return self.model_dump(mode="json", exclude={"validation", "records"})
