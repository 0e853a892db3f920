"""How a use case is reviewed: the section ``review`` of its file."""

from __future__ import annotations

from pydantic import Field

from visionops.settings import Settings

__all__ = ["ReviewConfig", "SecondOpinion"]


class SecondOpinion(Settings):
    """Which items two reviewers answer, neither of whom sees the other's answer."""

    share: float = Field(default=0.0, ge=0, le=1)
    """Of all items, chosen by a hash of their id; items whose present label is probably wrong are added. 0: none, a
    single reviewer decides."""


class ReviewConfig(Settings):
    """How a use case is reviewed."""

    random_share: float = Field(default=0.1, ge=0, le=1, allow_inf_nan=False)
    """Share of the sampled traffic that is reviewed whatever the model says of it, images without detections included:
    a queue built from the model's answers is blind to what it missed. Only these items feed performance estimates."""
    second_opinion: SecondOpinion = SecondOpinion()
