"""Measure how far reviewers agree on images that both labelled blind: Cohen's kappa, and F1 of boxes or classes.

Only the first two opinions of an item count: the third reviewer has seen both. Of the two, the one whose name sorts
first is the first rater. A third figure beside kappa and F1 is the share of items on which the task finds the labels
the same (`TaskSpec.agree`), which is what decides an item.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.evaluation.resampling import Floats, mean_defined, percentile_intervals, ratio, resample
from visionops.review.items import Opinion, UseCase
from visionops.review.opinions import opinions_agree
from visionops.review.ports import ReviewStore
from visionops.tasks.spec import LabelComparison, TaskSpec, task_for

__all__ = ["LEAST_ITEMS", "Agreement", "Figure", "ReviewerAgreement", "agreement_of", "measure_agreement"]

LEAST_ITEMS = 20
"""Fewest items for which a figure gets an interval."""
_RESAMPLES = 1000
_REJECTED, _USED = "rejected", "used"
_Measure = Callable[[Floats], Floats]


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A figure with the data that it was computed from."""

    value: float | None
    """None where it is not defined, such as kappa where both reviewers always gave the same answer."""
    low: float | None
    """95 % percentile interval over bootstrap resamples of the items; None for too few items."""
    high: float | None
    num_items: int
    """Items that it was computed from; for a class, those on which at least one of the two reviewers has it."""

    @property
    def is_reliable(self) -> bool:
        """Return whether there are enough items."""
        return self.num_items >= LEAST_ITEMS


@dataclasses.dataclass(frozen=True, slots=True)
class ReviewerAgreement:
    """Agreement of two reviewers, or of one reviewer with all others."""

    agreed: Figure
    """Share of items that their two opinions decided."""
    kappa: Figure
    """Mean over the questions, or over the classes of boxes, for which it is defined."""
    f1: Figure
    """F1 over all classes together."""


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of the reviewers of a use case."""

    use_case: str
    overall: ReviewerAgreement
    rejection: Figure
    """Kappa of whether an image is used or rejected."""
    questions: Mapping[str, Figure]
    """Kappa of each question; for boxes, of whether an image has any box of a class."""
    classes: Mapping[str, Figure]
    """F1 of each class."""
    pairs: Mapping[tuple[str, str], ReviewerAgreement]
    """Agreement of each pair of reviewers, keyed by their two names in order."""
    reviewers: Mapping[str, ReviewerAgreement]
    """Agreement of each reviewer with all others."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Pair:
    """Two opinions on one item, by name of the reviewer."""

    names: tuple[str, str]
    has_agreed: bool
    verdicts: tuple[str, str]
    comparison: LabelComparison
    """Empty where one rejects the image."""


def agreement_of(store: ReviewStore, use_case: str) -> Agreement:
    """Return how far the reviewers of a use case agree, computed from all opinions in a store.

    Raises:
        NotFound: The use case is unknown.
        Unavailable: The database cannot be reached.
    """
    return measure_agreement(store.use_case(use_case), store.opinions_of(use_case))


def measure_agreement(use_case: UseCase, opinions: Sequence[Opinion]) -> Agreement:
    """Return how far reviewers agree.

    Args:
        opinions: Ordered by item, round and number, as `ReviewStore.opinions_of` returns them.
    """
    pairs = list(_pairs(use_case, opinions))
    names = sorted({pair.names for pair in pairs})
    reviewers = sorted({name for pair in names for name in pair})
    measures: dict[str, tuple[_Measure, int]] = {_REJECTED: _kappa_of([pair.verdicts for pair in pairs])}
    questions, classes = _questions(pairs), _classes(pairs)
    for name in questions:
        measures[f"? {name}"] = _kappa_of([pair.comparison.answers.get(name) for pair in pairs])
    for name in classes:
        measures[f"= {name}"] = _f1_of([pair.comparison.parts.get(name, (0, 0, 0)) for pair in pairs])
    found = _figures(measures, len(pairs))
    return Agreement(
        use_case=use_case.name,
        overall=_between(pairs),
        rejection=found[_REJECTED],
        questions={name: found[f"? {name}"] for name in questions},
        classes={name: found[f"= {name}"] for name in classes},
        pairs={two: _between([pair for pair in pairs if pair.names == two]) for two in names},
        reviewers={one: _between([pair for pair in pairs if one in pair.names]) for one in reviewers},
    )


def _pairs(use_case: UseCase, opinions: Sequence[Opinion]) -> Iterable[_Pair]:
    task: TaskSpec[Any] = task_for(use_case.task)
    for _, group in itertools.groupby(opinions, lambda one: (one.item, one.round)):
        blind = sorted([one for one in group if one.number <= 2], key=lambda one: one.reviewer)
        if len(blind) < 2:
            continue
        first, second = blind
        comparison = LabelComparison()
        if first.label is not None and second.label is not None:
            comparison = task.compare(first.label, second.label, use_case.scheme)
        verdicts = (_USED if first.verdict.has_label else _REJECTED, _USED if second.verdict.has_label else _REJECTED)
        has_agreed = opinions_agree(first, second, task.agree)
        yield _Pair((first.reviewer, second.reviewer), has_agreed, verdicts, comparison)


def _questions(pairs: Sequence[_Pair]) -> list[str]:
    return list(dict.fromkeys(name for pair in pairs for name in pair.comparison.answers))


def _classes(pairs: Sequence[_Pair]) -> list[str]:
    return sorted({name for pair in pairs for name in pair.comparison.parts})


def _between(pairs: Sequence[_Pair]) -> ReviewerAgreement:
    kappas = [_kappa_of([pair.comparison.answers.get(name) for pair in pairs]) for name in _questions(pairs)]
    parts = np.array([np.sum([*pair.comparison.parts.values(), (0, 0, 0)], axis=0) for pair in pairs]).reshape(-1, 3)
    agreed = np.array([pair.has_agreed for pair in pairs], dtype=np.float64)
    answered = sum(bool(pair.comparison.answers) for pair in pairs)

    def share(weights: Floats) -> Floats:
        return ratio(weights @ agreed, weights.sum(axis=1))

    def kappa(weights: Floats) -> Floats:
        if not kappas:
            return np.full(len(weights), np.nan)
        return mean_defined(np.stack([measure(weights) for measure, _ in kappas]))

    return ReviewerAgreement(
        **_figures({"agreed": (share, len(pairs)), "kappa": (kappa, answered), "f1": _f1_of(parts)}, len(pairs))
    )


def _figures(measures: Mapping[str, tuple[_Measure, int]], num_pairs: int) -> dict[str, Figure]:
    """Compute figures, and their intervals on the same resamples of the pairs."""
    replicates: dict[str, list[Floats]] = {name: [] for name in measures}
    if num_pairs >= LEAST_ITEMS:
        for weights in resample(num_pairs, _RESAMPLES):
            for name, (measure, _) in measures.items():
                replicates[name].append(measure(weights))
    intervals = percentile_intervals({name: np.concatenate(drawn) for name, drawn in replicates.items() if drawn})
    figures = {}
    for name, (measure, count) in measures.items():
        value = float(measure(np.ones((1, num_pairs)))[0]) if num_pairs else np.nan
        low, high = intervals.get(name, (None, None)) if count >= LEAST_ITEMS else (None, None)
        figures[name] = Figure(None if np.isnan(value) else value, low, high, count)
    return figures


def _kappa_of(answers: Sequence[tuple[str, str] | None]) -> tuple[_Measure, int]:
    """Return Cohen's kappa as a function of the pairs' weights, and how many pairs have answers.

    Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20, 1960.
    """
    rows = np.array([row for row, pair in enumerate(answers) if pair is not None], dtype=np.intp)
    given = [pair for pair in answers if pair is not None]
    names = sorted({name for pair in given for name in pair})
    codes = np.array([[names.index(one) for one in pair] for pair in given], dtype=np.intp).reshape(-1, 2)
    first, second = (np.eye(len(names))[codes[:, side]] for side in (0, 1))
    same = (codes[:, 0] == codes[:, 1]).astype(np.float64)

    def kappa(weights: Floats) -> Floats:
        mine = weights[:, rows]
        total = mine.sum(axis=1)
        observed = ratio(mine @ same, total)
        chance = (ratio(mine @ first, total[:, None]) * ratio(mine @ second, total[:, None])).sum(axis=1)
        return ratio(observed - chance, 1 - chance)

    return kappa, len(given)


def _f1_of(parts: Sequence[tuple[int, int, int]] | npt.NDArray[Any]) -> tuple[_Measure, int]:
    """Return F1 as a function of the pairs' weights, and how many pairs have the class.

    Args:
        parts: (pairs, 3): matched, of the first reviewer, of the second reviewer; see `LabelComparison.parts`.
    """
    counts = np.array(parts, dtype=np.float64).reshape(-1, 3)

    def f1(weights: Floats) -> Floats:
        shared, ours, theirs = (weights @ counts).T
        return ratio(2 * shared, ours + theirs)

    return f1, int((counts[:, 1:].sum(axis=1) > 0).sum())
