"""How a use case is reviewed: the section ``review`` of its file."""

from __future__ import annotations

from pydantic import Field

from visionops.settings import Settings

__all__ = ["ReviewConfig"]


class ReviewConfig(Settings):
    """How a use case is reviewed."""

    random_share: float = Field(default=0.1, ge=0, le=1, allow_inf_nan=False)
    """Share of the sampled traffic that is reviewed whatever the model says of it, images without detections included:
    a queue built from the model's answers is blind to what it missed. Only these items feed performance estimates."""
