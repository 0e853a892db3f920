"""Settings for releasing a promoted challenger: at once, as a canary, or as a shadow."""

from __future__ import annotations

import enum

from pydantic import Field

from visionops.settings import Settings

__all__ = ["MOST_REQUESTS", "ReleaseConfig", "SplitBy", "Strategy"]

MOST_REQUESTS = 200
"""Number of images that a server remembers of each model, and so the maximum that a bound can require."""


class Strategy(enum.StrEnum):
    """How a challenger is tried between the gate and the alias."""

    SWITCH = "switch"
    """Becomes champion at once."""
    CANARY = "canary"
    """Answers a share of the requests first."""
    SHADOW = "shadow"
    """Computes a share of the champion's requests first, without answering them."""


class SplitBy(enum.StrEnum):
    """Key that splits the traffic of a canary, where a request has no `X-Request-Key`."""

    REQUEST = "request"
    """The request's id; each request is drawn separately."""
    KEY = "key"
    """The API key; a client always gets the same model. With few clients the share is only approximate."""


class ReleaseConfig(Settings):
    """How a challenger that passed the gate is released, and the bounds that it must keep until it is champion."""

    strategy: Strategy = Strategy.SWITCH
    """switch, canary or shadow."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of the requests that a canary answers, or a shadow computes."""
    hold_minutes: float = Field(default=60, ge=0, le=43_200, allow_inf_nan=False)
    """Minutes for which it must keep its bounds before it is promoted."""
    max_error_rate: float = Field(default=0.02, ge=0, le=1)
    """Largest share of its images on which it may fail."""
    max_latency_ratio: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    """Largest median time for an image, as a multiple of the champion's."""
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    """Least mean agreement with the champion's answers; not checked when absent. The champion then computes a canary's
    images, too."""
    min_requests: int = Field(default=50, ge=1, le=MOST_REQUESTS)
    """Number of images before anything is decided."""
    split_by: SplitBy = SplitBy.REQUEST
    """request or key."""

    @property
    def is_held(self) -> bool:
        """Return whether a challenger waits beside the champion before it is promoted."""
        return self.strategy is not Strategy.SWITCH
