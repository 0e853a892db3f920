"""Draw bootstrap resamples of the test images, and compute metrics on many of them at once.

A metric that is not defined on a resample is NaN and excluded from means.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "mean_defined", "percentile_intervals", "ratio", "resample"]

Floats = npt.NDArray[np.float64]

_SEED = 20170  # arbitrary, but shared by all evaluations, so that their replicates can be compared draw by draw
_CELLS = 1_000_000
"""Maximum number of weights in memory at once, for any number of images and resamples."""


def resample(num_images: int, resamples: int) -> Iterator[Floats]:
    """Yield bootstrap draws in batches: float64 (draws, images), how often each image was drawn.

    The draws depend only on the two numbers.
    """
    random = np.random.default_rng(_SEED)
    batch = max(1, _CELLS // num_images)
    for start in range(0, resamples, batch):
        count = min(batch, resamples - start)
        drawn = random.integers(0, num_images, (count, num_images)) + np.arange(count)[:, None] * num_images
        counts = np.bincount(drawn.ravel(), minlength=count * num_images)
        yield counts.reshape(count, num_images).astype(np.float64)


def percentile_intervals(replicates: dict[str, Floats]) -> dict[str, tuple[float, float]]:
    """Return 95 % percentile intervals (Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13)."""
    intervals = {}
    for name, values in replicates.items():
        defined = values[~np.isnan(values)]
        if len(defined):
            low, high = np.percentile(defined, [2.5, 97.5])
            intervals[name] = (float(low), float(high))
    return intervals


def mean_defined(values: Floats) -> Floats:
    """Return the mean over the first axis, ignoring NaN; NaN where all values are NaN."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    """Divide; return NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    undefined = np.full(np.broadcast_shapes(top.shape, bottom.shape), np.nan)
    return np.asarray(np.divide(top, bottom, out=undefined, where=bottom != 0))
