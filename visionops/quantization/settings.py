"""Settings of quantization."""

from __future__ import annotations

from pydantic import Field

from visionops.evaluation.settings import EvaluationPlan
from visionops.settings import Settings

__all__ = ["QuantizationConfig", "QuantizationPlan"]


class QuantizationConfig(Settings):
    """Quantization of the champion to 8-bit integers, with `--pipeline quantize`."""

    images: int = Field(default=300, ge=1, le=10_000)
    """Number of val images that set the ranges; all if there are fewer."""
    max_loss: float = Field(default=0.01, ge=0, le=1)
    """Permitted loss of `gate.metric` on the same test images, against the champion or the float model it was made
    from, whichever is better: 0.01 is one point of mAP50."""


class QuantizationPlan(Settings):
    """All settings that a quantization reads."""

    quantization: QuantizationConfig
    scoring: EvaluationPlan
    """How to measure the quantized model."""
