"""Record comparisons of two models of one name: in metrics, in the figures of the hold, and to judge a canary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from deploy.serving.models.entries import Choice
from deploy.serving.models.hold import Hold
from deploy.serving.models.model_metrics import ModelMetrics
from deploy.serving.models.models import ServedModel

__all__ = ["CanaryComparison", "ShadowComparison"]


@dataclasses.dataclass(frozen=True, slots=True)
class ShadowComparison:
    """Comparison in which a shadow computes an image that the champion answered."""

    shadow: ServedModel
    metrics: ModelMetrics
    hold: Hold | None

    def compared(self, agreement: float, seconds: float, other_seconds: float) -> None:
        """See `Comparison`."""
        self.metrics.compared(self.shadow.ref.name, agreement, seconds, other_seconds)
        if self.hold:
            self.hold.answered("champion", seconds)
            self.hold.answered("candidate", other_seconds)
            self.hold.compared(agreement)

    def not_compared(self, outcome: str) -> None:
        """See `Comparison`."""
        self.metrics.shadow(self.shadow.ref.name, outcome)
        if self.hold and outcome == "failed":
            self.hold.failed("candidate")


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryComparison:
    """Comparison in which the champion computes an image that a canary answered."""

    choice: Choice
    metrics: ModelMetrics
    judge: Callable[[Choice], None]

    def compared(self, agreement: float, seconds: float, other_seconds: float) -> None:  # noqa: ARG002
        """See `Comparison`. The champion's time is measured on the requests that it answers, not here."""
        canary = self.choice.served
        self.metrics.canary_compared(canary.ref.name, agreement)
        canary.record.compared(agreement)
        if self.choice.hold:
            self.choice.hold.compared(agreement)
        self.judge(self.choice)

    def not_compared(self, outcome: str) -> None:
        """See `Comparison`."""
        self.metrics.canary_not_compared(self.choice.served.ref.name, outcome)
