"""How a bundle is scored."""

from __future__ import annotations

from pydantic import Field

from visionops.inference.settings import ServingConfig, UseCase
from visionops.settings import Settings

__all__ = ["EvaluationConfig", "Scoring"]


class EvaluationConfig(Settings):
    """How the test split is scored."""

    worst_images: int = Field(default=12, ge=0, le=100)
    """How many of the worst are drawn; 0: no images at all, only figures and charts."""
    latency_images: int = Field(default=50, ge=1)
    """Images whose latency is measured, one after another."""
    resamples: int = Field(default=1000, ge=0, le=100_000)
    """Bootstrap resamples of the test images, for confidence intervals and for `gate.confidence`; 0: none."""


class Scoring(Settings):
    """All that an evaluation reads of a use case."""

    use_case: UseCase
    evaluation: EvaluationConfig
    serving: ServingConfig
    """The engine and the thresholds that are measured."""
    metric: str
    """What the gate looks at; the test split must define it."""

    def brief(self) -> Scoring:
        """Return the same, with the latency of a single image: for a comparison, where it does not count."""
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update={"latency_images": 1})})
