"""Random exchanges of images between two tables, and the p-value they give."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Draw", "Numbers", "choose", "deal", "generator_of", "permutation_p"]

Numbers = npt.NDArray[np.float64]
Draw = Callable[[int], Numbers]
"""That many values of a statistic under a random exchange of images."""

_BATCH = 500
_ENOUGH = 20
"""Exchanges at least as far apart as the window, from which on more of them cannot make it drift."""
_TIE = 1e-5
"""Relative difference up to which two distances are equal: single precision sums them in any order."""
_FEW_IMAGES = 500
"""Up to here shuffling all images is quicker than drawing some of them."""
_FEW_PATTERNS = 64
"""Up to here dealing images pattern by pattern is quicker than dealing them one by one, however few there are."""


def generator_of(column: str, seed: int) -> np.random.Generator:
    """Return the chance of one column: the same whatever other columns are compared, and in whatever order."""
    return np.random.default_rng([seed, zlib.crc32(column.encode())])


def permutation_p(found: float | None, draw: Draw, limit: int) -> float:
    """Share of random exchanges that are as far apart, of ``limit``; stops early where the answer is no.

    Besag and Clifford, Sequential Monte Carlo p-values, 1991. Either way the p-value is exact.
    """
    assert found is not None
    done = as_far = 0
    while done < limit:
        size = min(_BATCH, limit - done)
        hits = np.flatnonzero(draw(size) >= found * (1 - _TIE) - 1e-9)
        if as_far + len(hits) >= _ENOUGH:
            return float(_ENOUGH / (done + hits[_ENOUGH - as_far - 1] + 1))
        as_far += len(hits)
        done += size
    return (as_far + 1) / (limit + 1)


def deal(
    images: npt.NDArray[np.int64], number: int, size: int, rng: np.random.Generator
) -> npt.NDArray[np.integer[Any]]:
    """Deal ``number`` of the images to one side, ``size`` times.

    Args:
        images: With each pattern or value, (patterns,).

    Returns:
        How many of each pattern that side got, (size, patterns).
    """
    total = int(images.sum())
    if len(images) <= max(_FEW_PATTERNS, total // 25):
        return np.asarray(rng.multivariate_hypergeometric(images, number, size, method="marginals"))
    chosen = choose(total, number, size, rng, np.uint8)
    if len(images) == total:
        return chosen
    first = np.cumsum(images) - images
    return np.asarray(np.add.reduceat(chosen, first, axis=1, dtype=np.int64))


def choose(total: int, number: int, size: int, rng: np.random.Generator, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Choose ``number`` of ``total`` images, ``size`` times: 1 where an image is chosen, else 0, (size, total)."""
    if total <= _FEW_IMAGES:
        return rng.permuted(np.broadcast_to((np.arange(total) < number).astype(dtype), (size, total)), axis=1)
    chosen = np.zeros((size, total), dtype)
    for row in chosen:
        row[rng.choice(total, number, replace=False, shuffle=False)] = 1
    return chosen
