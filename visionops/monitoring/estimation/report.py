"""What was estimated, or why nothing was."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from visionops.data.findings import counted
from visionops.monitoring.policy import Estimate

__all__ = ["PartEstimate", "PerformanceEstimate"]


class PartEstimate(BaseModel):
    """The metric in a part of the window."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    begin: datetime
    end: datetime
    images: int
    value: float | None = None
    """None: too few to estimate."""
    interval: tuple[float, float] | None = None
    """95 %."""


class PerformanceEstimate(BaseModel):
    """The gate's metric of a window without labels."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    is_estimate: Literal[True] = True
    """No label was looked at: it holds only as far as the probabilities stay calibrated on the window."""
    method: Literal["CBPE"] = "CBPE"
    metric: str
    estimate: Estimate | None = None
    """None: nothing was estimated."""
    problem: str = ""
    """Why nothing was; "" where something was."""
    parts: tuple[PartEstimate, ...] = ()
    """Of equal time, the earliest first; a part with too few images has no value."""
    held_out_images: int = 0
    """Of the val split, that the probabilities were calibrated on."""
    left_out: int = 0
    """Predictions without probabilities in the log."""

    def explain(self) -> str:
        """Return one sentence."""
        seen = self.estimate
        if seen is None:
            return f"{self.metric} is not estimated: {self.problem}"
        low, high = seen.interval
        left_out = f"; {counted(self.left_out, 'prediction')} without probabilities left out" if self.left_out else ""
        at_test = f", {seen.at_test:.3f} on the test split" if seen.at_test is not None else ""
        return (
            f"estimated {seen.metric} {seen.value:.3f} ({low:.3f} to {high:.3f}) on "
            f"{counted(seen.images, 'prediction')} without labels{at_test}{left_out}"
        )
