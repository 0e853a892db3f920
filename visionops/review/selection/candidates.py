"""A pending image with the model's prediction for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from visionops.review.errors import Invalid

__all__ = ["Candidate", "QuestionProbabilities", "answers_of", "check_candidates", "stacked_embeddings"]

NO_EMBEDDING = np.empty(0, dtype=np.float32)


@dataclasses.dataclass(frozen=True, slots=True)
class QuestionProbabilities:
    """The probabilities of one question about the whole image."""

    name: str
    """Name of the question; "" where there is only one."""
    probabilities: Mapping[str, float]
    """Class to probability, from 0 to 1; at least two classes."""
    positive: str | None = None
    """Positive class of two, to which ``threshold`` applies."""
    threshold: float | None = None
    """Probability from which the positive class is the answer; None selects the most probable class."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """An image, with the columns of its record that order the queue (`visionops.monitoring.record`)."""

    id: str
    """Id of the item."""
    labels: tuple[tuple[str, float], ...] = ()
    """Class and confidence of each box or question, as `Prediction.labels`; empty where the model finds nothing."""
    answered: tuple[QuestionProbabilities, ...] = ()
    """Answers of a task with questions; empty for a detector."""
    threshold: float = 0.0
    """Confidence above which a detector reports a box."""
    embedding: npt.NDArray[np.float32] = dataclasses.field(default_factory=lambda: NO_EMBEDDING)
    """float32 (D,); (0,) where it is unknown."""
    agreement: float | None = None
    """`Prediction.agreement` of the model with the shadow model, 0 to 1; None without a shadow answer."""
    is_predicted: bool = True
    """False where no model has answered, so that empty ``labels`` have no meaning."""


def answers_of(
    heads: Sequence[tuple[str, Sequence[str], str | None, float | None]], probabilities: Sequence[float]
) -> tuple[QuestionProbabilities, ...]:
    """Return the answers that the column ``probabilities`` of a record holds.

    Args:
        heads: Name, classes, positive class and threshold of each question, in the order of the model's card.
        probabilities: Probability of every class of every question, in that order.

    Raises:
        Invalid: There are more or fewer probabilities than classes.
    """
    total = sum(len(classes) for _, classes, _, _ in heads)
    if len(probabilities) != total:
        raise Invalid(f"probabilities: has {len(probabilities)} numbers, the model has {total} classes")
    found, start = [], 0
    for name, classes, positive, threshold in heads:
        part = probabilities[start : start + len(classes)]
        start += len(classes)
        shown = name if len(heads) > 1 else ""
        found.append(
            QuestionProbabilities(shown, dict(zip(classes, map(float, part), strict=True)), positive, threshold)
        )
    return tuple(found)


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """Check that scores can be computed.

    Raises:
        Invalid: An id occurs twice, a probability, confidence or agreement is not from 0 to 1, an embedding is not a
            row of finite numbers, or embeddings differ in length.
    """
    if len({one.id for one in candidates}) < len(candidates):
        raise Invalid("candidates: an item occurs twice")
    widths = {one.embedding.shape for one in candidates if one.embedding.size}
    if len(widths) > 1 or any(len(shape) != 1 for shape in widths):
        raise Invalid(f"embeddings: differ in shape ({', '.join(map(str, sorted(widths)))}); use one model for all")
    for one in candidates:
        shares = [confidence for _, confidence in one.labels]
        shares += [p for answer in one.answered for p in answer.probabilities.values()]
        shares += [] if one.agreement is None else [one.agreement]
        if bad := [value for value in shares if not 0 <= value <= 1]:
            raise Invalid(f"item {one.id}: {bad[0]} is not from 0 to 1")
        if not 0 <= one.threshold <= 1 or not all(_is_usable(answer) for answer in one.answered):
            raise Invalid(f"item {one.id}: has a threshold outside 0 to 1, or a question with fewer than two classes")
        if not np.isfinite(one.embedding).all():
            raise Invalid(f"item {one.id}: its embedding is not finite")


def _is_usable(answer: QuestionProbabilities) -> bool:
    threshold = answer.threshold
    is_share = threshold is None or (math.isfinite(threshold) and 0 <= threshold <= 1)
    return is_share and len(answer.probabilities) >= 2


def stacked_embeddings(candidates: Sequence[Candidate]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Return the known embeddings, float32 (K, D), each of length 1, and their indexes, (K,).

    Unit length makes distances depend on the content of an image and not on its contrast.
    """
    places = np.array([place for place, one in enumerate(candidates) if one.embedding.size], dtype=np.intp)
    if not len(places):
        return np.empty((0, 0), dtype=np.float32), places
    return unit_rows(np.stack([candidates[place].embedding for place in places])), places


def unit_rows(embeddings: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Return rows of length 1, float32 (N, D); a row of zeros stays unchanged."""
    wide = embeddings.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)
