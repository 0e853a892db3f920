"""An order in which the next image is far from all that stand before it, so that a batch is not copies of one part.

K-center greedy (Sener and Savarese, Active learning for convolutional neural networks: a core-set approach, 2018), with
the other scores added to the distance: a far image of which the model is certain does not come first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from visionops.review.selection.scoring import nearest_distances

__all__ = ["MOST_PICKS", "Spread", "spread_out"]

MOST_PICKS = 500
"""Images that are put in order one by one. Those behind keep their distance to these: nobody reviews them before the
next order is made."""

_FAR = 0.95
"""Quantile of the distances at the beginning that counts as far, so that no single odd image makes all others near."""

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Of each row."""

    shares: Floats
    """float64 (N,), 0 to 1: how far it was from all before it when its turn came, as a share of a far distance."""
    distances: Floats
    """float64 (N,): the same as a distance, 0 to 2; infinite for the first of all."""


def spread_out(
    embeddings: npt.NDArray[np.float32],
    known: npt.NDArray[np.float32],
    scores: Floats,
    weight: float,
    picks: int = MOST_PICKS,
) -> Spread:
    """Pick rows one by one, each time that of the highest ``score + weight * share``.

    A share only falls while others are picked, so these sums fall from pick to pick: sorted by them, the rows stand in
    the order in which they were picked. Of equal sums the earlier row is first.

    Args:
        embeddings: Of length 1, float32 (N, D).
        known: Embeddings of labelled images, of length 1, float32 (M, D); M may be 0.
        scores: What else speaks for each row, float64 (N,).
        picks: At most so many.
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
    # Not ranks: where all are equally far, the smallest difference would be the whole one.
    return np.minimum(distances / far, 1.0) if far > 0 else (distances > 0).astype(np.float64)
