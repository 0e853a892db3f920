"""Exchange images between two tables at random, and compute p-values from these exchanges."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Draw", "Numbers", "choose", "deal", "generator_of", "permutation_p"]

Numbers = npt.NDArray[np.float64]
Draw = Callable[[int], Numbers]
"""Function that returns this number of values of a statistic under random exchanges of images."""

_BATCH = 500
_ENOUGH = 20
"""Number of exchanges with at least the window's distance after which the column can no longer drift."""
_TIE = 1e-5
"""Relative difference up to which two distances count as equal, because single precision sums depend on the order."""
_FEW_IMAGES = 500
"""Number of images up to which shuffling all is faster than drawing some."""
_FEW_PATTERNS = 64
"""Number of patterns up to which drawing by pattern is faster than drawing single images."""


def generator_of(column: str, seed: int) -> np.random.Generator:
    """Return the random generator of one column, independent of the other columns and their order."""
    return np.random.default_rng([seed, zlib.crc32(column.encode())])


def permutation_p(found: float | None, draw: Draw, limit: int) -> float:
    """Return the share of up to ``limit`` random exchanges that are as far apart; stops early when it is clearly large.

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
    """Draw ``number`` of the images, ``size`` times.

    Args:
        images: Number of images with each pattern or value, (patterns,).

    Returns:
        Number of drawn images of each pattern, (size, patterns).
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
