"""Settings of the gate."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, field_validator

from visionops.data.settings import ValidationPolicy
from visionops.evaluation.settings import EvaluationPlan
from visionops.quantization.settings import QuantizationConfig
from visionops.settings import Settings

__all__ = ["GateConfig", "GatePlan"]


class GateConfig(Settings):
    """Requirements for a challenger to become champion."""

    metric: str = "map50"
    """Metric that is compared, one of `TaskSpec.metrics`; the task's first if absent."""
    minimum: float = Field(default=0.3, ge=0, le=1)
    """Minimum value of the metric, with or without a champion."""
    margin: float = Field(default=0.005, ge=0, le=1)
    """Margin by which the champion must be beaten, on the same test images."""
    confidence: float = Field(default=0.95, ge=0, lt=1)
    """The challenger must be ahead in more than this share of resamples of the test images, so that noise does not
    replace a champion: an equal challenger passes once in 20 at 0.95, once in 5 at 0.8. 0: only the margin counts."""
    min_images: int = Field(default=25, ge=1)
    """Minimum number of test images to compare on; with fewer, no champion is replaced, because resamples of a few
    images are overconfident. Does not apply with `confidence: 0`."""
    per_class_minimum: float | dict[str, float] | None = None
    """Minimum for each class (of several attributes: for each attribute), as one number or by name, because a mean
    hides a class that fails. Judged by `metric` if it exists per class, else by recall. Absent: none."""

    @field_validator("per_class_minimum", mode="before")
    @classmethod
    def _check_floors(cls, given: Any) -> Any:
        """Report a wrong type in one line, where a union of types would report it in two."""
        for floor in given.values() if isinstance(given, dict) else () if given is None else (given,):
            if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= 1:
                raise ValueError("must be a number from 0 to 1, or one for each class: {crack: 0.5}")
        # YAML reads a class with the name 1 as a number.
        return {str(name): floor for name, floor in given.items()} if isinstance(given, dict) else given

    @property
    def least_resamples(self) -> int:
        """Minimum number of resamples for `confidence`: at least five must be able to contradict it."""
        return math.ceil(round(5 / (1 - self.confidence), 6)) if self.confidence else 0


class GatePlan(Settings):
    """All settings that the gate reads."""

    gate: GateConfig
    scoring: EvaluationPlan
    """How to score the models to beat."""
    validation: ValidationPolicy
    """Which images count as duplicates of training images."""
    quantization: QuantizationConfig
    """Permitted loss of a quantized challenger."""
