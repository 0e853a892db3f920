"""Convert scores of one kind to shares of the queue, so that kinds with other units and spreads can be added."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["rank_shares"]

Floats = npt.NDArray[np.float64]


def rank_shares(values: Floats) -> Floats:
    """Return the share of candidates that each one exceeds, counting half of its equals: float64 (N,), 0 up to 1.

    A score of 0 means that the reason does not apply. It stays 0, however many others there are.

    Args:
        values: Scores, finite, 0 or more.
    """
    if not len(values):
        return np.zeros(0)
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    until = np.searchsorted(ordered, values, side="right")
    return np.asarray(np.where(values > 0, (below + until) / (2 * len(values)), 0.0))
