"""Score how much each pending image is worth a review, one reason at a time.

Each function returns `Scores`: a number for each candidate, the higher the sooner, 0 where the reason does not hold or
cannot be judged, and a text for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from visionops.review.selection.candidates import Candidate, QuestionProbabilities, stacked_embeddings, unit_rows

__all__ = ["Scores", "disagreement", "nearest_distances", "novelty", "rarity", "uncertainty"]

_BLOCK = 512
"""Number of rows whose distances to all others are in memory at once."""
_MOST_REFERENCE = 2000

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Scores:
    """One reason for every candidate."""

    kind: str
    values: Floats
    """float64 (N,), finite, 0 or more."""
    text: Callable[[int], str]
    """Function that returns the text for the candidate at this index."""


def uncertainty(candidates: Sequence[Candidate]) -> Scores:
    """Score how undecided the model is, 0 to 1.

    For a question: 1 minus the margin between its two most probable classes, or, where a threshold decides, how near
    the positive class is to it. Of several questions the most undecided one counts. For a detector: how near its
    weakest box is to the threshold below which it would be dropped. An image without boxes scores 0; the random share
    covers it.
    """
    found = [_undecided(one) for one in candidates]
    return Scores("uncertainty", np.array([value for value, _ in found]), lambda place: found[place][1])


def _undecided(one: Candidate) -> tuple[float, str]:
    if one.answered:
        return max(map(_undecided_question, one.answered), key=lambda pair: pair[0])
    if not one.labels:
        return 0.0, ""
    name, confidence = min(one.labels, key=lambda label: label[1])
    room = 1 - one.threshold
    value = 1 - (confidence - one.threshold) / room if room > 0 else 0.0
    return min(max(value, 0.0), 1.0), f"{name} with confidence {confidence:.2f}, threshold {one.threshold:.2f}"


def _undecided_question(answer: QuestionProbabilities) -> tuple[float, str]:
    (first, p), (second, q) = sorted(answer.probabilities.items(), key=lambda pair: (-pair[1], pair[0]))[:2]
    text = f"probability of {first} {p:.2f}, of {second} {q:.2f}"
    margin = p - q
    if answer.positive is not None and answer.threshold is not None:
        t, positive = answer.threshold, answer.probabilities[answer.positive]
        room = 1 - t if positive >= t else t
        margin = abs(positive - t) / room if room > 0 else 1.0
        text = f"probability of {answer.positive} {positive:.2f}, threshold {t:.2f}"
    name = f"{answer.name}: " if answer.name else ""
    return min(max(1 - margin, 0.0), 1.0), name + text


def disagreement(candidates: Sequence[Candidate]) -> Scores:
    """Score how much the shadow model disagrees: 1 minus the agreement, 0 to 1; 0 where no shadow answered."""
    values = np.array([0.0 if one.agreement is None else 1 - one.agreement for one in candidates])

    def text(place: int) -> str:
        return f"the shadow model agrees by {1 - values[place]:.0%}"

    return Scores("disagreement", values, text)


def novelty(candidates: Sequence[Candidate], reference: npt.NDArray[np.float32]) -> Scores:
    """Score how far each image is from the nearest image that the model was validated on.

    Args:
        reference: Embeddings of the bundle's reference, float32 (R, D). Candidates of another size score 0.

    Returns:
        Distances between unit vectors, 0 to 2.
    """
    embeddings, places = stacked_embeddings(candidates)
    values = np.zeros(len(candidates))
    if len(reference) < 2 or not len(places) or reference.shape[1] != embeddings.shape[1]:
        return Scores("novelty", values, lambda _: "")
    step = max(1, len(reference) // _MOST_REFERENCE)
    known = unit_rows(reference[::step])
    usual = np.sort(_distances_among(known))
    values[places] = nearest_distances(embeddings, known)

    def text(place: int) -> str:
        share = np.searchsorted(usual, values[place]) / len(usual)
        return f"farther from the validation images than {share:.0%} of them are from each other"

    return Scores("novelty", values, text)


def nearest_distances(rows: npt.NDArray[np.float32], known: npt.NDArray[np.float32]) -> Floats:
    """Return the distance from each row to the nearest known one, (N,).

    Args:
        rows: Unit vectors, float32 (N, D).
        known: Unit vectors, float32 (M, D), at least one.
    """
    nearest = [(rows[at : at + _BLOCK] @ known.T).max(axis=1) for at in range(0, len(rows), _BLOCK)]
    products = np.concatenate(nearest) if nearest else np.empty(0, dtype=np.float32)
    return np.asarray(np.sqrt(np.maximum(2 - 2 * products.astype(np.float64), 0)))


def _distances_among(rows: npt.NDArray[np.float32]) -> Floats:
    """Return the distance from each row to the nearest other one."""
    found = []
    for at in range(0, len(rows), _BLOCK):
        products = rows[at : at + _BLOCK] @ rows.T
        here = np.arange(len(products))
        products[here, at + here] = -1
        found.append(products.max(axis=1))
    return np.asarray(np.sqrt(np.maximum(2 - 2 * np.concatenate(found).astype(np.float64), 0)))


def rarity(candidates: Sequence[Candidate], counts: Mapping[str, int]) -> Scores:
    """Score how rare the predicted classes are among the labelled images, 0 to 1.

    A class scores ``1 - count / count of the most frequent class``. For a question this is weighted by the
    probabilities; for a detector the box with the largest product of confidence and rarity counts.

    Args:
        counts: Labelled images, or boxes, of each class, as `Prediction.labels` names it; 0 for a class left out.
    """
    most = max(counts.values(), default=0)
    if most <= 0:
        return Scores("rare", np.zeros(len(candidates)), lambda _: "")
    found = [_rare(one, counts, most) for one in candidates]
    return Scores("rare", np.array([value for value, _ in found]), lambda place: found[place][1])


def _rare(one: Candidate, counts: Mapping[str, int], most: int) -> tuple[float, str]:
    def of(name: str) -> float:
        return 1 - min(max(counts.get(name, 0), 0), most) / most

    sums: list[tuple[float, str, float]] = []
    for answer in one.answered:
        parts = [(p * of(name := _full_name(answer, c)), name, p) for c, p in answer.probabilities.items()]
        strongest = max(parts, key=lambda part: (part[0], part[1]))
        sums.append((sum(value for value, _, _ in parts), *strongest[1:]))
    if not one.answered:
        sums = [(confidence * of(name), name, confidence) for name, confidence in one.labels]
    if not sums:
        return 0.0, ""
    value, name, confidence = max(sums)
    return min(value, 1.0), f"{name} with {confidence:.2f}, of which {counts.get(name, 0)} are labelled"


def _full_name(answer: QuestionProbabilities, class_name: str) -> str:
    return f"{answer.name}={class_name}" if answer.name else class_name
