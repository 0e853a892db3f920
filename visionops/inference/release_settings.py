"""How a promoted challenger takes over the endpoint: at once, by a share of the traffic, or by looking on first."""

from __future__ import annotations

import enum

from pydantic import Field

from visionops.settings import Settings

__all__ = ["MOST_REQUESTS", "ReleaseConfig", "SplitBy", "Strategy"]

MOST_REQUESTS = 200
"""Images that a server remembers of each model, and so the most that a bound can wait for."""


class Strategy(enum.StrEnum):
    """What a challenger does between the gate and the alias."""

    SWITCH = "switch"
    """Becomes champion at once."""
    CANARY = "canary"
    """Answers a share of the requests first."""
    SHADOW = "shadow"
    """Computes a share of what the champion answers first, and answers nobody."""


class SplitBy(enum.StrEnum):
    """What the share of a canary is cut by, where a request has no `X-Request-Key`."""

    REQUEST = "request"
    """The request's id: each request is drawn by itself."""
    KEY = "key"
    """The API key: a client always meets the same model. With few clients the share is rough."""


class ReleaseConfig(Settings):
    """How a challenger that passed the gate is released, and what it must keep until it is champion."""

    strategy: Strategy = Strategy.SWITCH
    """switch, canary or shadow."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Of the requests: those that a canary answers, or a shadow computes."""
    hold_minutes: float = Field(default=60, ge=0, le=43_200, allow_inf_nan=False)
    """How long it must keep its bounds before it is promoted."""
    max_error_rate: float = Field(default=0.02, ge=0, le=1)
    """Share of its images that it may fail on."""
    max_latency_ratio: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    """Its median time for an image, as a multiple of the champion's."""
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    """Mean agreement with the champion's answers; absent: not judged. The champion then computes a canary's images,
    too."""
    min_requests: int = Field(default=50, ge=1, le=MOST_REQUESTS)
    """Images before anything is decided."""
    split_by: SplitBy = SplitBy.REQUEST
    """request or key."""

    @property
    def is_held(self) -> bool:
        """Whether a challenger waits beside the champion before it is promoted."""
        return self.strategy is not Strategy.SWITCH
