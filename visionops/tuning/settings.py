"""Settings of a search for training settings."""

from __future__ import annotations

import math
from typing import Any

from pydantic import Field, model_validator

from visionops.settings import Raw, Settings
from visionops.tasks.settings import TrainingPlan

__all__ = ["SearchPlan", "SearchRange", "TuningConfig"]

_FEW = 64
"""Number of values of a range up to which each one is checked."""


class SearchRange(Settings):
    """Range of a search for one setting: ``low`` to ``high``, or one of ``choices``."""

    low: float | None = None
    """Lowest value."""
    high: float | None = None
    """Highest value."""
    log: bool = False
    """Sample evenly over orders of magnitude."""
    step: float | None = Field(default=None, gt=0)
    """Sample only ``low`` plus multiples of it. Whole numbers are sampled for a setting that takes nothing else, and
    where low, high and step are whole."""
    choices: tuple[Raw | None, ...] | None = None
    """The values to try, instead of a range."""

    @model_validator(mode="after")
    def _agree(self) -> SearchRange:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("give either choices, or low and high")
            if len(set(map(repr, self.choices))) < 2:
                raise ValueError("choices need two values or more; a single one belongs under training")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        # Allow for rounding: 0.4 - 0.3 is below 0.1.
        if self.step is not None and self.step > (self.high - self.low) * (1 + 1e-9):
            raise ValueError(f"step {self.step:g} is longer than the range")
        return self

    def numbers(self, *, whole: bool) -> tuple[float, float, float | None]:
        """Return low, the highest reachable number, and the step; whole numbers where required.

        Args:
            whole: Whether the setting takes whole numbers only.
        """
        assert self.low is not None
        assert self.high is not None
        ends_are_whole = self.low.is_integer() and self.high.is_integer()
        if ends_are_whole and (whole if self.step is None else self.step.is_integer()):
            step = int(self.step or 1)
            return int(self.low), int(self.low) + (int(self.high) - int(self.low)) // step * step, step
        if self.step is None:
            return self.low, self.high, None
        return (
            self.low,
            round(self.low + math.floor((self.high - self.low) / self.step + 1e-9) * self.step, 12),
            self.step,
        )

    def examples(self, *, whole: bool) -> list[Any]:
        """Return the values that must be allowed for a valid range: all of a few, else both ends and one between.

        Args:
            whole: Whether the setting takes whole numbers only.
        """
        if self.choices is not None:
            return list(self.choices)
        low, high, step = self.numbers(whole=whole)
        if step is None:
            return [low, high, low + 0.382 * (high - low)]  # not the middle, which may be allowed by chance
        count = round((high - low) / step)
        return [low + i * step for i in (range(count + 1) if count < _FEW else (0, count, count // 2))]


class TuningConfig(Settings):
    """Search for better training settings: `--pipeline tuning`."""

    trials: int = Field(default=20, ge=1, le=10_000)
    """Trainings to try; a grid has as many as it has rows."""
    seed: int = 0
    """Seed of the search."""
    parallel: int = Field(default=1, ge=1, le=256)
    """Number of parallel trials, each in a process of its own."""
    pruning: bool = True
    """Stop a trial early if it does worse than the median of the others at the same epoch."""
    metric: str | None = None
    """One of the task's `TaskSpec.metrics`, on the val split; the gate's metric when absent."""
    space: dict[str, SearchRange] = Field(default_factory=dict)
    """Ranges to try, by setting under `training` ("learning_rate", "augmentation.fliplr")."""
    grid: tuple[dict[str, Raw], ...] = ()
    """Explicit sets of settings to try, each once, instead of a space."""
    storage: str | None = None
    """An Optuna storage URL that several machines share; a file of this machine when absent."""

    @model_validator(mode="after")
    def _agree(self) -> TuningConfig:
        if self.space and self.grid:
            raise ValueError("give either a space to search or a grid of explicit sets")
        return self


class SearchPlan(Settings):
    """All settings of a use case that a search reads."""

    plan: TrainingPlan
    """Training whose settings are varied."""
    tuning: TuningConfig
    metric: str
    """Metric that is maximised on the val split."""

    @property
    def name(self) -> str:
        """Return the name of the use case."""
        return self.plan.name
