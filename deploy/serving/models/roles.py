"""Define the roles of models, the share of requests for a canary, and the bounds that withdraw it."""

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
"""Number of images that a record keeps."""


class ModelRole(enum.StrEnum):
    """Role of a model."""

    CHAMPION = "champion"
    """Answers requests."""
    CANARY = "canary"
    """Answers a share of the requests, and is withdrawn when it does worse than the champion."""
    SHADOW = "shadow"
    """Answers no request: computes images that the champion answered, for comparison."""


class Breach(enum.StrEnum):
    """Reason why a canary was withdrawn."""

    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    DISAGREEMENT = "disagreement"


class Bounds(BaseModel):
    """Bounds that a canary must keep over its last images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_error_rate: float = Field(default=0.02, ge=0, le=1)
    """Largest share of failed images: the engine failed, or returned numbers that are not finite."""
    max_latency_ratio: float = Field(default=2.0, ge=1, allow_inf_nan=False)
    """Largest median time for an image, as a multiple of the champion's."""
    min_agreement: float | None = Field(default=None, ge=0, le=1)
    """Least mean agreement with the champion, which then also computes its images; not judged when absent."""
    min_requests: int = Field(default=50, ge=1, le=_WINDOW)
    """Number of images of each model before the canary is judged."""

    def breach(self, canary: Record, champion: Record) -> tuple[Breach, str] | None:
        """Return the bound that ``canary`` breaks, with the figures as text; None if it breaks none."""
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
    """Results of a model's last images. Safe to write from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: collections.deque[float | None] = collections.deque(maxlen=_WINDOW)
        self._agreements: collections.deque[float] = collections.deque(maxlen=_WINDOW)

    def answered(self, seconds: float) -> None:
        """Count one answered image, with its time in seconds without decoding."""
        with self._lock:
            self._seconds.append(seconds)

    def failed(self) -> None:
        """Count one image on which the model failed."""
        with self._lock:
            self._seconds.append(None)

    def compared(self, agreement: float) -> None:
        """Count one answered image that the champion computed too; 1 if both agree fully, 0 if not at all."""
        with self._lock:
            self._agreements.append(agreement)

    @property
    def compared_images(self) -> int:
        """Return the number of comparisons in the record."""
        return len(self._agreements)

    @property
    def agreement(self) -> float:
        """Return the mean agreement with the champion; 1 before the first comparison."""
        with self._lock:
            return statistics.fmean(self._agreements) if self._agreements else 1.0

    @property
    def images(self) -> int:
        """Return the number of images in the record."""
        return len(self._seconds)

    @property
    def error_rate(self) -> float:
        """Return the share of failed images; 0 before the first image."""
        with self._lock:
            return self._seconds.count(None) / max(1, len(self._seconds))

    @property
    def median_seconds(self) -> float:
        """Return the median seconds of answered images; 0 before the first image."""
        with self._lock:
            seconds = [s for s in self._seconds if s is not None]
        return statistics.median(seconds) if seconds else 0.0

    def summary(self) -> dict[str, float]:
        """Return the number of images, the error rate and the median time as a JSON object."""
        shown = {
            "images": self.images,
            "error_rate": round(self.error_rate, 4),
            "median_ms": round(self.median_seconds * 1000, 3),
        }
        if compared := self.compared_images:
            shown |= {"compared_images": compared, "agreement": round(self.agreement, 4)}
        return shown


def in_share(share: float, key: str, salt: str) -> bool:
    """Return whether ``key`` belongs to the share: the same result for each call, and a larger share only adds keys.

    Args:
        share: Share of keys, 0 (none) to 1 (all).
        salt: Text that makes different canaries get different keys.
    """
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64
