"""Configuration of one use case: its sections, and the constraints between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from visionops.data.settings import FORMATS_BY_LAYER, DataConfig, ValidationPolicy
from visionops.evaluation.settings import EvaluationConfig, EvaluationPlan
from visionops.gate.settings import GateConfig, GatePlan
from visionops.inference.settings import ServingConfig, UseCase
from visionops.inference.task_registry import TaskName, task_names
from visionops.monitoring.settings import MonitoringConfig
from visionops.quantization.settings import QuantizationConfig, QuantizationPlan
from visionops.review.settings import ReviewConfig
from visionops.schedules import SchedulesConfig
from visionops.settings import Settings
from visionops.suggestions import nearest_names
from visionops.tasks.conversion_plan import ConversionPlan, Training
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.spec import task_for
from visionops.tuning.settings import SearchPlan, TuningConfig
from visionops.tuning.trial_settings import change_training, find_impossible_trial

__all__ = ["Config", "with_training"]


class Config(Settings):
    """Configuration of one use case."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)
    """Name of the registered model and the endpoint: lower case, digits and dashes."""
    task: TaskName = "detection"
    """What is learned."""
    data: DataConfig
    """Which data to take, and how their labels are written."""
    validation: ValidationPolicy = ValidationPolicy()
    """Which findings stop a run, and the limits they are judged by."""
    training: Training = DetectionTraining()
    """What the model learns with; which settings there are depends on `task`."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the test split is scored."""
    gate: GateConfig = GateConfig()
    """What a challenger must reach to become champion."""
    tuning: TuningConfig = TuningConfig()
    """The search for better training settings."""
    quantization: QuantizationConfig = QuantizationConfig()
    """The champion in 8-bit integers."""
    serving: ServingConfig = ServingConfig()
    """How the champion answers."""
    monitoring: MonitoringConfig = MonitoringConfig()
    """What the endpoint's traffic is compared with, and what follows."""
    review: ReviewConfig = ReviewConfig()
    """Which images people review, and in which order."""
    schedules: SchedulesConfig = SchedulesConfig()
    """When pipelines run by the clock."""

    @model_validator(mode="before")
    @classmethod
    def _follow_task(cls, raw: Any) -> Any:
        """Use the task for `training` and its first metric for the gate, unless the configuration sets others."""
        if not isinstance(raw, dict):
            return raw
        task = raw.get("task", cls.model_fields["task"].default)
        if task not in list(task_names()):  # a list, because the value may not be hashable
            return raw  # the field's own error is clearer
        filled = dict(raw)
        metric = task_for(task).gate_metrics[0]
        for section, default in (("training", {"task": task}), ("gate", {"metric": metric})):
            given = filled.get(section, {})
            if isinstance(given, dict):
                filled[section] = default | given
        return filled

    @model_validator(mode="after")
    def _agree(self) -> Config:
        task = task_for(self.task)
        formats = FORMATS_BY_LAYER.get(task.layer, ())
        others = {known for layer in FORMATS_BY_LAYER.values() for known in layer}
        if formats and self.data.format in others.difference(formats):
            known = f"{', '.join(formats)} or auto"
            raise ValueError(f"data.format: {self.task} reads {known} (got {self.data.format.value!r})")
        task.check_data(self.data)
        if self.training.task != self.task:
            raise ValueError(f"training.task: expected {self.task}, got {self.training.task}; remove it")
        for key, metric, known_metrics in (
            ("gate.metric", self.gate.metric, task.gate_metrics),
            ("tuning.metric", self.tuning.metric, task.tuning_metrics),
        ):
            if metric is not None and metric not in known_metrics:
                near = "".join(f"did you mean {name!r}? " for name in nearest_names(metric, known_metrics))
                raise ValueError(f"{key}: {near}{self.task} has {', '.join(known_metrics)} (got {metric!r})")
        if (self.tuning.space or self.tuning.grid) and self.search_plan.metric not in task.tuning_metrics:
            raise ValueError(
                f"tuning.metric: is missing, and gate.metric {self.gate.metric} is known on test alone; set it to one "
                f"of {', '.join(task.tuning_metrics)}"
            )
        if self.evaluation.resamples < self.gate.least_resamples:
            raise ValueError(
                f"evaluation.resamples: gate.confidence {self.gate.confidence:g} needs {self.gate.least_resamples} or "
                f"more (got {self.evaluation.resamples}); raise it, or set gate.confidence: 0 to compare by the margin "
                "alone"
            )
        if problem := find_impossible_trial(self.training, self.tuning):
            raise ValueError(problem)  # report it now, not after hours of training
        return self

    @property
    def use_case(self) -> UseCase:
        """Name and task of the use case."""
        return UseCase(name=self.name, task=self.task)

    @property
    def training_plan(self) -> TrainingPlan:
        """Settings that a training reads."""
        policy = self.validation.without_shards()
        return TrainingPlan(
            name=self.name,
            training=self.training,
            serving=self.serving,
            validation=policy,
            records=self.monitoring.record_rules,
        )

    @property
    def conversion_plan(self) -> ConversionPlan:
        """Settings that the conversion of its data for the trainer reads."""
        return self.training_plan.conversion

    @property
    def scoring(self) -> EvaluationPlan:
        """Settings that an evaluation reads."""
        return EvaluationPlan(
            use_case=self.use_case, evaluation=self.evaluation, serving=self.serving, metric=self.gate.metric
        )

    @property
    def gate_plan(self) -> GatePlan:
        """Settings that the gate reads."""
        return GatePlan(
            gate=self.gate,
            scoring=self.scoring,
            validation=self.validation.without_shards(),
            quantization=self.quantization,
        )

    @property
    def quantization_plan(self) -> QuantizationPlan:
        """Settings that a quantization reads."""
        return QuantizationPlan(quantization=self.quantization, scoring=self.scoring)

    @property
    def search_plan(self) -> SearchPlan:
        """Settings that a search reads."""
        metric = self.tuning.metric or self.gate.metric
        return SearchPlan(plan=self.training_plan, tuning=self.tuning, metric=metric)


def with_training(config: Config, settings: Mapping[str, Any], origin: str) -> Config:
    """Return the use case with some settings under ``training`` changed; see `change_training`."""
    return config.model_copy(update={"training": change_training(config.training, settings, origin)})
