"""Settings for scoring a bundle."""

from __future__ import annotations

from pydantic import Field

from visionops.inference.settings import ServingConfig, UseCase
from visionops.settings import Settings

__all__ = ["EvaluationConfig", "EvaluationPlan"]


class EvaluationConfig(Settings):
    """Settings for scoring the test split."""

    worst_images: int = Field(default=12, ge=0, le=100)
    """Number of worst images to draw; 0 draws no images, only figures and charts."""
    latency_images: int = Field(default=50, ge=1)
    """Images whose latency is measured, one after another."""
    resamples: int = Field(default=1000, ge=0, le=100_000)
    """Number of bootstrap resamples of the test images, for confidence intervals and for `gate.confidence`; 0: none."""


class EvaluationPlan(Settings):
    """All settings that an evaluation reads."""

    use_case: UseCase
    evaluation: EvaluationConfig
    serving: ServingConfig
    """Engine and thresholds to measure."""
    metric: str
    """Metric of the gate; the test split must define it."""

    def brief(self) -> EvaluationPlan:
        """Return the same settings with the latency of one image: for a comparison, where latency does not count."""
        return self.model_copy(update={"evaluation": self.evaluation.model_copy(update={"latency_images": 1})})
