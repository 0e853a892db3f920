"""Compute the reasons of every pending image, whose sum is its priority."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from visionops.review.items import RANDOM, Reason
from visionops.review.selection.candidates import Candidate, check_candidates, stacked_embeddings, unit_rows
from visionops.review.selection.diversity import MOST_PICKS, pick_diverse
from visionops.review.selection.random_share import RANDOM_TEXT, is_drawn, random_place
from visionops.review.selection.ranks import rank_shares
from visionops.review.selection.scoring import Scores, disagreement, novelty, rarity, uncertainty
from visionops.review.settings import ReviewConfig

__all__ = ["KINDS", "Ordered", "SelectionContext", "order_queue"]

KINDS = frozenset({"uncertainty", "disagreement", "novelty", "rare", "diversity"})
"""Reasons that this module sets, and replaces when it is called again."""
_NONE = np.empty((0, 0), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class SelectionContext:
    """Known facts beside the pending images."""

    reference: npt.NDArray[np.float32] = dataclasses.field(default_factory=lambda: _NONE)
    """Embeddings of the bundle's reference, float32 (R, D)."""
    labelled: npt.NDArray[np.float32] = dataclasses.field(default_factory=lambda: _NONE)
    """Embeddings of images that are labelled, or under review, float32 (L, D)."""
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of labelled images, or boxes, of each class, named as in `Prediction.labels`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ordered:
    """An image with its reasons."""

    id: str
    reasons: tuple[Reason, ...]
    """Reasons, strongest first; empty where none applies."""

    @property
    def priority(self) -> float:
        """Return the sum of the reasons, 0 to 1."""
        return sum(reason.value for reason in self.reasons)


def order_queue(
    candidates: Sequence[Candidate],
    known: SelectionContext,
    config: ReviewConfig,
    drawn: frozenset[str] = frozenset(),
    closed: frozenset[str] = frozenset(),
    picks: int = MOST_PICKS,
) -> list[Ordered]:
    """Return every candidate with its reasons, in the order of the queue.

    Each kind of score becomes a share of the queue (`rank_shares`), counts by its weight, and all weights together make
    1. An image of the random share has the reason ``random`` alone, and stands where chance puts it among the others:
    whatever part of the queue is reviewed, its random images are a fair sample.

    Args:
        drawn: Ids that already belong to the random share.
        closed: Ids that must not belong to it, such as images that a person reported.
        picks: Number of images that are ordered by diversity, one by one.

    Raises:
        Invalid: A candidate cannot be scored; see `check_candidates`.
    """
    check_candidates(candidates)
    at_random = [one for one in candidates if one.id in drawn or _is_new_draw(one.id, config, closed)]
    ids = {one.id for one in at_random}
    scored = _score([one for one in candidates if one.id not in ids], known, config, picks)
    priorities = np.array([one.priority for one in scored])
    for one in at_random:
        place = random_place(one.id, config.seed)
        value = float(np.quantile(priorities, place)) if len(priorities) else place
        scored.append(Ordered(one.id, (Reason(RANDOM, value, RANDOM_TEXT),)))
    return sorted(scored, key=lambda one: (-one.priority, one.id))


def _is_new_draw(item: str, config: ReviewConfig, closed: frozenset[str]) -> bool:
    return item not in closed and is_drawn(item, config.random_share, config.seed)


def _score(candidates: Sequence[Candidate], known: SelectionContext, config: ReviewConfig, picks: int) -> list[Ordered]:
    weights = config.selection.model_dump()
    total = sum(weights.values())
    columns = [scores for scores in _scores(candidates, known) if weights[scores.kind]]
    reasons: list[list[Reason]] = [[] for _ in candidates]
    sums = np.zeros(len(candidates))
    for scores in columns:
        values = rank_shares(scores.values) * (weights[scores.kind] / total)
        sums += values
        for place in np.flatnonzero(values):
            reasons[place].append(Reason(scores.kind, float(values[place]), scores.text(int(place))[:500]))
    if weights["diversity"]:
        embeddings, places = stacked_embeddings(candidates)
        labelled = known.labelled if known.labelled.shape[1:] == embeddings.shape[1:] else _NONE
        weight = weights["diversity"] / total
        spread = pick_diverse(embeddings, unit_rows(labelled), sums[places], weight, picks)
        for row, place in enumerate(places):
            if value := float(spread.shares[row]) * weight:
                reasons[place].append(Reason("diversity", value, _far(float(spread.distances[row]))))
    return [
        Ordered(one.id, tuple(sorted(found, key=lambda reason: (-reason.value, reason.kind))))
        for one, found in zip(candidates, reasons, strict=True)
    ]


def _scores(candidates: Sequence[Candidate], known: SelectionContext) -> list[Scores]:
    return [
        uncertainty(candidates),
        disagreement(candidates),
        novelty(candidates, known.reference),
        rarity(candidates, known.counts),
    ]


def _far(distance: float) -> str:
    if not np.isfinite(distance):
        return "the first of its kind"
    return f"unlike what is labelled or stands before it in the queue (distance {distance:.2f})"
