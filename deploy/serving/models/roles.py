"""What part a model plays under its name, who of the requests sees a canary, and when it goes."""

from __future__ import annotations

import collections
import enum
import hashlib
import statistics
import threading

from pydantic import BaseModel, ConfigDict, Field

from visionops.inference.release_settings import MOST_REQUESTS

__all__ = ["Bounds", "Breach", "ModelRole", "Record", "in_share"]

_WINDOW = MOST_REQUESTS
"""Images that a record remembers."""


class ModelRole(enum.StrEnum):
    """The part of a model."""

    CHAMPION = "champion"
    """Answers."""
    CANARY = "canary"
    """Answers a share of the requests, and is sent away when it does worse than the champion."""
    SHADOW = "shadow"
    """Answers nobody: computes what the champion has answered, to be compared."""


class Breach(enum.StrEnum):
    """Why a canary was sent away."""

    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    DISAGREEMENT = "disagreement"


class Bounds(BaseModel):
    """What a canary must keep, over its last images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_error_rate: float = Field(default=0.02, ge=0, le=1)
    """Share of images it fails on: the engine failed, or its numbers are not finite."""
    max_latency_ratio: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    """Its median time for an image, as a multiple of the champion's."""
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    """Mean agreement of its answers with the champion's, which computes its images, too; not judged when absent."""
    min_requests: int = Field(default=50, ge=1, le=_WINDOW)
    """Images of each before it is judged."""

    def breach(self, canary: Record, champion: Record) -> tuple[Breach, str] | None:
        """The bound that ``canary`` breaks, and the figures."""
        if canary.images < self.min_requests:
            return None
        if (rate := canary.error_rate) > self.max_error_rate:
            return Breach.ERROR_RATE, f"failed on {rate:.1%} of its last {canary.images} images"
        ours, theirs = canary.median_seconds, champion.median_seconds
        if champion.images >= self.min_requests and theirs and ours > self.max_latency_ratio * theirs:
            return Breach.LATENCY, f"took {ours * 1000:.1f} ms an image where the champion took {theirs * 1000:.1f} ms"
        least, compared = self.min_agreement, canary.compared_images
        if least is not None and compared >= self.min_requests and (mean := canary.agreement) < least:
            return (
                Breach.DISAGREEMENT,
                f"agreed with the champion by {mean:.3f} on its last {compared} compared images, below {least:g}",
            )
        return None


class Record:
    """How a model did on its last images. Safe to write from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: collections.deque[float | None] = collections.deque(maxlen=_WINDOW)
        self._agreements: collections.deque[float] = collections.deque(maxlen=_WINDOW)

    def answered(self, seconds: float) -> None:
        """One image was answered in so much time, decoding not counted."""
        with self._lock:
            self._seconds.append(seconds)

    def failed(self) -> None:
        """One image was not answered, and it was the model's fault."""
        with self._lock:
            self._seconds.append(None)

    def compared(self, agreement: float) -> None:
        """The champion computed one image that it had answered; 1: the same, 0: nothing in common."""
        with self._lock:
            self._agreements.append(agreement)

    @property
    def compared_images(self) -> int:
        """How many comparisons are remembered."""
        return len(self._agreements)

    @property
    def agreement(self) -> float:
        """Mean agreement with the champion; 1 before the first comparison."""
        with self._lock:
            return statistics.fmean(self._agreements) if self._agreements else 1.0

    @property
    def images(self) -> int:
        """How many are remembered."""
        return len(self._seconds)

    @property
    def error_rate(self) -> float:
        """Share of images it failed on; 0 before the first."""
        with self._lock:
            return self._seconds.count(None) / max(1, len(self._seconds))

    @property
    def median_seconds(self) -> float:
        """Of the images it answered; 0 before the first."""
        with self._lock:
            seconds = [s for s in self._seconds if s is not None]
        return statistics.median(seconds) if seconds else 0.0

    def summary(self) -> dict[str, float]:
        """Images, error rate and median, for a reader."""
        shown = {
            "images": self.images,
            "error_rate": round(self.error_rate, 4),
            "median_ms": round(self.median_seconds * 1000, 3),
        }
        if compared := self.compared_images:
            shown |= {"compared_images": compared, "agreement": round(self.agreement, 4)}
        return shown


def in_share(share: float, key: str, salt: str) -> bool:
    """Whether ``key`` belongs to the share: always the same answer for one key, and a greater share only adds keys.

    Args:
        share: 0 (no key) to 1 (every key).
        salt: What the share is of: two canaries do not meet the same keys.
    """
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
