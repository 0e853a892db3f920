"""What quantization reads and may lose."""

from __future__ import annotations

from pydantic import Field

from visionops.evaluation.settings import Scoring
from visionops.settings import Settings

__all__ = ["QuantizationConfig", "QuantizationPlan"]


class QuantizationConfig(Settings):
    """The champion in 8-bit integers: `--pipeline quantize`."""

    images: int = Field(default=300, ge=1, le=10_000)
    """Of the val split, that set the ranges; all where there are fewer."""
    max_loss: float = Field(default=0.01, ge=0, le=1)
    """What `gate.metric` may lose on the same test images, against the champion or the float model it was made from,
    whichever is better: 0.01 is one point of mAP50."""


class QuantizationPlan(Settings):
    """All that a quantization reads of a use case."""

    quantization: QuantizationConfig
    scoring: Scoring
    """How the figures of the quantized model are measured."""
