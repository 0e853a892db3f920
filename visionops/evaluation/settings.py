"""How a bundle is scored."""

from __future__ import annotations

from pydantic import Field

from visionops.settings import Settings

__all__ = ["EvaluationConfig"]


class EvaluationConfig(Settings):
    """How the test split is scored."""

    worst_images: int = Field(default=12, ge=0, le=100)
    """How many of the worst are drawn; 0: no images at all, only figures and charts."""
    latency_images: int = Field(default=50, ge=1)
    resamples: int = Field(default=1000, ge=0, le=100_000)
    """Bootstrap resamples of the test images, for confidence intervals and for `gate.confidence`; 0: none."""
