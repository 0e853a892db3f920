"""What a challenger must reach."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, field_validator

from visionops.data.settings import ValidationPolicy
from visionops.evaluation.settings import Scoring
from visionops.quantization.settings import QuantizationConfig
from visionops.settings import Settings

__all__ = ["GateConfig", "Judging"]


class GateConfig(Settings):
    """What a challenger must reach to become champion."""

    metric: str = "map50"
    """`TaskSpec.metrics` of the task; its first when absent."""
    minimum: float = Field(default=0.3, ge=0, le=1)
    """The absolute gate."""
    margin: float = Field(default=0.005, ge=0, le=1)
    """By how much the champion must be beaten, on the same test images."""
    confidence: float = Field(default=0.95, ge=0, lt=1)
    """In more than what share of resamples of the test images the challenger must be ahead, so that a champion is not
    replaced on noise: a challenger that is no better passes once in 20 at 0.95, once in 5 at 0.8. 0: the margin alone
    counts."""
    min_images: int = Field(default=25, ge=1)
    """With fewer test images to compare on, no champion is replaced: resamples of a few images are too sure. Not with
    `confidence: 0`."""
    per_class_minimum: float | dict[str, float] | None = None
    """Floor of each class (of several attributes: of each attribute), as one number or by name: a class that collapses
    hides in a mean. Judged by `metric` where it is known of a class, else by recall. Absent: none."""

    @field_validator("per_class_minimum", mode="before")
    @classmethod
    def _check_floors(cls, given: Any) -> Any:
        """Say in one line what a union of types would say in two."""
        for floor in given.values() if isinstance(given, dict) else () if given is None else (given,):
            if isinstance(floor, bool) or not isinstance(floor, int | float) or not 0 <= floor <= 1:
                raise ValueError("must be a number from 0 to 1, or one for each class: {crack: 0.5}")
        # YAML reads a class that is called 1 as a number.
        return {str(name): floor for name, floor in given.items()} if isinstance(given, dict) else given

    @property
    def least_resamples(self) -> int:
        """Resamples below which a share as high as `confidence` says little: five must be able to speak against it."""
        return math.ceil(round(5 / (1 - self.confidence), 6)) if self.confidence else 0


class Judging(Settings):
    """All that the gate reads of a use case."""

    gate: GateConfig
    scoring: Scoring
    """How the models to beat are scored."""
    validation: ValidationPolicy
    """Which images look like one that a model learned from."""
    quantization: QuantizationConfig
    """What a quantized challenger may lose."""
