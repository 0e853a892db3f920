"""Report of an estimate, or of the reason why there is none."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from visionops.data.findings import counted
from visionops.monitoring.policy import Estimate

__all__ = ["PartEstimate", "PerformanceEstimate"]


class PartEstimate(BaseModel):
    """Estimate for a part of the window."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    begin: datetime
    end: datetime
    images: int
    value: float | None = None
    """Estimated metric; None where there are too few images."""
    interval: tuple[float, float] | None = None
    """95 % interval."""


class PerformanceEstimate(BaseModel):
    """Estimate of the gate's metric for a window without labels."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    is_estimate: Literal[True] = True
    """Computed without labels, so valid only as far as the probabilities stay calibrated on the window."""
    method: Literal["CBPE"] = "CBPE"
    metric: str
    estimate: Estimate | None = None
    """Estimate for the whole window; None where there is none."""
    problem: str = ""
    """Reason why there is no estimate; "" where there is one."""
    parts: tuple[PartEstimate, ...] = ()
    """Estimates for parts of equal time, earliest first; a part with too few images has no value."""
    held_out_images: int = 0
    """Number of val images on which the probabilities were calibrated."""
    left_out: int = 0
    """Number of predictions in the log without probabilities."""

    def explain(self) -> str:
        """Return a one-sentence summary."""
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
