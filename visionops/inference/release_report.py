"""Report of a server on a release: figures of champion and candidate on the traffic of the hold."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from visionops.inference.release_settings import Strategy

__all__ = ["BUCKETS", "Agreement", "ArmFigures", "ReleaseReport", "ReleaseReports", "bucket_of", "merge_arms"]

BUCKETS = 128
_FIRST_SECONDS = 1e-4
_GROWTH = 1.1
"""Ratio of bucket bounds: a median read from the buckets is right within 5 %, for every engine."""


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration: the first holds all below 0.1 ms, the last all above 18 s."""
    if seconds <= _FIRST_SECONDS:
        return 0
    return min(BUCKETS - 1, 1 + int(math.log(seconds / _FIRST_SECONDS) / math.log(_GROWTH)))


class ArmFigures(BaseModel):
    """Figures of one model on its images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    answered: int = Field(default=0, ge=0)
    failed: int = Field(default=0, ge=0)
    """Images on which its engine failed, or its numbers were not finite."""
    durations: dict[int, int] = {}
    """Number of answered images by `bucket_of` their time without decoding; buckets without an image are left out."""

    @property
    def images(self) -> int:
        """Return the number of images that it received."""
        return self.answered + self.failed

    @property
    def error_rate(self) -> float:
        """Return the share of images on which it failed; 0 before the first."""
        return self.failed / max(1, self.images)

    @property
    def median_seconds(self) -> float:
        """Return the median time of the answered images in seconds; 0 before the first."""
        buckets = sorted(self.durations)
        total = sum(self.durations.values())
        for bucket, reached in zip(buckets, itertools.accumulate(self.durations[b] for b in buckets), strict=True):
            if 2 * reached >= total:
                return _FIRST_SECONDS * math.pow(_GROWTH, bucket - 0.5)
        return 0.0


class Agreement(BaseModel):
    """Agreement of both models on the images that both computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    images: int = Field(default=0, ge=0)
    total: float = 0.0
    """Sum of `Prediction.agreement`."""
    squares: float = 0.0
    """Sum of the squares."""

    @property
    def mean(self) -> float:
        """Return the mean, 0 to 1; 1 before the first image."""
        return self.total / self.images if self.images else 1.0

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Return the interval of the mean; 0 to 1 with fewer than two images."""
        if self.images < 2:
            return 0.0, 1.0
        variance = max(0.0, self.squares / self.images - self.mean**2) * self.images / (self.images - 1)
        half = z * math.sqrt(variance / self.images)
        return max(0.0, self.mean - half), min(1.0, self.mean + half)


class ReleaseReport(BaseModel):
    """Report of one server process on a release."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    instance: str
    """Id of the process; each replica of an endpoint has its own."""
    name: str
    champion: str
    """Version that answers what the candidate does not."""
    candidate: str | None = None
    """Candidate version; None where there is none."""
    strategy: Strategy = Strategy.SWITCH
    share: float = 0.0
    since: datetime | None = None
    """Time when this process, or its predecessor with the same files, began; aware."""
    figures: dict[str, ArmFigures] = {}
    """Figures of "champion" and "candidate"."""
    agreement: Agreement = Agreement()
    breach: str = ""
    """Name of the bound that the candidate broke; "" while it was not rolled back."""
    returned: str = ""
    """Reason why the candidate was rolled back; "" while it was not."""
    problem: str = ""
    """Reason why the candidate could not be loaded; "" where it was."""

    def arm(self, name: str) -> ArmFigures:
        """Return the figures of "champion" or "candidate"."""
        return self.figures.get(name, ArmFigures())


class ReleaseReports(BaseModel):
    """Reports of an endpoint's servers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    reports: tuple[ReleaseReport, ...] = ()
    expected: int = 1
    """Number of servers."""

    @classmethod
    def of(cls, reports: Iterable[ReleaseReport], expected: int = 1) -> Self:
        """Return the latest report of each instance."""
        return cls(reports=tuple({report.instance: report for report in reports}.values()), expected=expected)


def merge_arms(arms: Sequence[ArmFigures]) -> ArmFigures:
    """Return the figures of all servers together."""
    durations: dict[int, int] = {}
    for arm in arms:
        for bucket, count in arm.durations.items():
            durations[bucket] = durations.get(bucket, 0) + count
    return ArmFigures(
        answered=sum(arm.answered for arm in arms), failed=sum(arm.failed for arm in arms), durations=durations
    )
