"""Compute the spread of a median over rounds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

import numpy as np

__all__ = ["Spread", "interval_of_median", "spread_of"]


_DRAWS = 2000
_SHARE = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class Spread:
    """A median with its 95 % confidence interval."""

    median: float
    low: float
    high: float


def spread_of(values: Sequence[float]) -> Spread:
    """Return the median of the values of all rounds, with its interval."""
    return Spread(statistics.median(values), *interval_of_median(values))


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median: percentiles of 2,000 resamples, the same for the same values.

    Few rounds give few different medians, so the interval of fewer than six values is their whole range.
    """
    if len(values) < 6:
        return min(values), max(values)
    draws = np.random.default_rng(0).choice(np.asarray(values, float), (_DRAWS, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [(1 - _SHARE) / 2, (1 + _SHARE) / 2])
    return float(low), float(high)
