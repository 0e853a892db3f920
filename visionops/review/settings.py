"""What a use case says about its review."""

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
    """How images are reviewed."""

    second_opinion: SecondOpinion = SecondOpinion()
