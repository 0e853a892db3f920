"""One use case: every section, and what they demand of one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from visionops.data.settings import BOX_FORMATS, LABEL_FORMATS, DataConfig, FolderSource, ValidationPolicy
from visionops.evaluation.settings import EvaluationConfig
from visionops.gate.settings import GateConfig
from visionops.inference.settings import ServingConfig, Task
from visionops.monitoring.settings import MonitoringConfig
from visionops.quantization.settings import QuantizationConfig
from visionops.settings import Settings
from visionops.tasks.detection.settings import DetectionTraining
from visionops.tasks.settings import METRICS, Training
from visionops.tuning.settings import TuningConfig
from visionops.tuning.trial_settings import change_training, find_impossible_trial

__all__ = ["Config", "with_training"]


class Config(Settings):
    """One use case."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=63)
    """Names the registered model and the endpoint: lower case, digits and dashes."""
    task: Task = Task.DETECTION
    data: DataConfig
    validation: ValidationPolicy = ValidationPolicy()
    training: Training = DetectionTraining()
    evaluation: EvaluationConfig = EvaluationConfig()
    gate: GateConfig = GateConfig()
    tuning: TuningConfig = TuningConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    serving: ServingConfig = ServingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()

    @model_validator(mode="before")
    @classmethod
    def _follow_task(cls, raw: Any) -> Any:
        """The task decides which settings `training` has, and what the gate looks at unless it is told."""
        if not isinstance(raw, dict):
            return raw
        task = raw.get("task", Task.DETECTION)
        if task not in list(Task):  # of a list: what is not hashable is no task either
            return raw  # the field says it better
        filled = dict(raw)
        for section, default in (("training", {"task": task}), ("gate", {"metric": METRICS[Task(task)][0]})):
            given = filled.get(section, {})
            if isinstance(given, dict):
                filled[section] = default | given
        return filled

    @model_validator(mode="after")
    def _agree(self) -> Config:
        detection = self.task is Task.DETECTION
        formats, others = (BOX_FORMATS, LABEL_FORMATS) if detection else (LABEL_FORMATS, BOX_FORMATS)
        if self.data.format in set(others) - set(formats):
            known = f"{', '.join(formats)} or auto"
            raise ValueError(f"data.format: {self.task.value} reads {known} (got {self.data.format.value!r})")
        if self.task is Task.CLASSIFICATION and len(self.data.labels) > 1:
            names = ", ".join(self.data.labels)
            raise ValueError(f"data.labels: classification has one, not {names}; keep one, or set task: attributes")
        if self.training.task != self.task:
            raise ValueError(f"training.task: {self.training.task.value} is not task {self.task.value}; leave it out")
        for key, metric in (("gate.metric", self.gate.metric), ("tuning.metric", self.tuning.metric)):
            if metric is not None and metric not in METRICS[self.task]:
                raise ValueError(f"{key}: {self.task.value} has {', '.join(METRICS[self.task])} (got {metric!r})")
        if self.evaluation.resamples < self.gate.least_resamples:
            raise ValueError(
                f"evaluation.resamples: gate.confidence {self.gate.confidence:g} needs {self.gate.least_resamples} or "
                f"more (got {self.evaluation.resamples}); raise it, or set gate.confidence: 0 to let the margin alone "
                "count"
            )
        if problem := find_impossible_trial(self.training, self.tuning):
            raise ValueError(problem)  # known now, not in the middle of a night of training
        return self

    def only(self, *sections: str) -> Config:
        """The same use case with every other section at its default.

        A step that is given only what it reads is not run again when something else changes: a new gate does not train
        a new model. Nor does a number of shards, which changes the result of no step.
        """
        blank = Config.model_validate(
            {
                "name": self.name,
                "task": self.task,
                "data": DataConfig(source=FolderSource(kind="folder", path=Path()), format=self.data.format),
            }
        )
        others = {n for n in type(self).model_fields if n not in {"name", "task", *sections}}
        whole: dict[str, Any] = {"validation": self.validation.model_copy(update={"shards": blank.validation.shards})}
        if "evaluation" in others:  # whose resamples the gate's confidence is checked against
            whole["gate"] = self.gate.model_copy(update={"confidence": blank.gate.confidence})
        return self.model_copy(update=whole | {n: getattr(blank, n) for n in others})


def with_training(config: Config, settings: Mapping[str, Any], origin: str) -> Config:
    """Return the same use case with some settings under ``training`` changed; see `change_training`."""
    return config.model_copy(update={"training": change_training(config.training, settings, origin)})
