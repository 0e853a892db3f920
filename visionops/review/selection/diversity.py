"""Order images so that each is far from all before it and a batch does not consist of near copies.

K-center greedy (Sener and Savarese, Active learning for convolutional neural networks: a core-set approach, 2018), with
the other scores added to the distance: a far image of which the model is certain does not come first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from visionops.review.selection.scoring import nearest_distances

__all__ = ["MOST_PICKS", "Spread", "pick_diverse"]

MOST_PICKS = 500
"""Number of images ordered one by one. Later ones keep their distance to these: the queue is ordered anew before
then."""

_FAR = 0.95
"""Quantile of the initial distances that counts as far, so that a single outlier does not make all others look near."""

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Order of the rows by diversity."""

    shares: Floats
    """float64 (N,), 0 to 1: distance from all earlier rows at its turn, as a share of a far distance."""
    distances: Floats
    """float64 (N,): the same as a distance, 0 to 2; infinite for the first row."""


def pick_diverse(
    embeddings: npt.NDArray[np.float32],
    known: npt.NDArray[np.float32],
    scores: Floats,
    weight: float,
    picks: int = MOST_PICKS,
) -> Spread:
    """Pick rows one by one, each time the row with the highest ``score + weight * share``.

    A share only falls while others are picked, so these sums fall from pick to pick. Sorting by them therefore gives
    the order of picking. Of equal sums the earlier row is first.

    Args:
        embeddings: Unit vectors, float32 (N, D).
        known: Embeddings of labelled images, unit vectors, float32 (M, D); M may be 0.
        scores: Sum of the other scores of each row, float64 (N,).
        picks: Maximum number of picks.
    """
    count = len(embeddings)
    if not count:
        return Spread(np.zeros(0), np.zeros(0))
    if len(known):
        distances = nearest_distances(embeddings, known)
        far = float(np.quantile(distances, _FAR))
    else:
        distances = np.full(count, np.inf)
        centre = embeddings.mean(axis=0, dtype=np.float64)
        far = float(np.quantile(np.linalg.norm(embeddings - centre, axis=1), _FAR))
    final, is_left = distances.copy(), np.ones(count, dtype=bool)
    shares = _shares(far, distances)
    for _ in range(min(picks, count)):
        sums = np.where(is_left, scores + weight * shares, -np.inf)
        place = int(sums.argmax())
        is_left[place] = False
        final[place] = distances[place]
        to_it = np.sqrt(np.maximum(2 - 2 * (embeddings @ embeddings[place]).astype(np.float64), 0))
        distances = np.minimum(distances, to_it)
        shares = _shares(far, distances)
    final[is_left] = distances[is_left]
    return Spread(_shares(far, final), final)


def _shares(far: float, distances: Floats) -> Floats:
    # Not ranks: where all rows are equally far, ranks would turn the smallest difference into the largest.
    return np.minimum(distances / far, 1.0) if far > 0 else (distances > 0).astype(np.float64)
