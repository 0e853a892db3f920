"""Score labels: accuracy, F1, areas under curves, calibration, all of them also on resamples of the images.

Every figure is computed for many weightings of the images at once. Weights of one give the figure itself, and the
counts of bootstrap draws give a replicate, so a figure and its interval have the same definition. The definitions are
those of scikit-learn, which the tests check. An undefined figure is NaN and is left out of means.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionops.evaluation.resampling import Floats, mean_defined, ratio
from visionops.inference.bundle import Head

__all__ = [
    "CLASS_METRICS",
    "LABEL_METRICS",
    "Outcome",
    "areas",
    "bin_reliability",
    "calibration_error",
    "figure_of",
    "figures",
    "log_loss",
    "threshold_counts",
]

LABEL_METRICS = ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc")
CLASS_METRICS = ("precision", "recall", "f1")

_AREAS = ("roc_auc", "pr_auc")
_BINS = 15
"""Number of bins, as in Guo et al."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Answers of one head for every test image, with the truth."""

    head: Head
    truth: npt.NDArray[np.int64]
    """int64 (images,), class ids of the head; -1 where unknown."""
    probabilities: Floats
    """float64 (images, classes of the head)."""
    answers: npt.NDArray[np.int64]
    """int64 (images,): the server's answers, by the head's threshold where it has one."""

    @property
    def is_known(self) -> npt.NDArray[np.bool_]:
        """Return whether the truth is known, bool (images,)."""
        return np.greater_equal(self.truth, 0)

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Return whether the answer is correct, bool (images,)."""
        return np.equal(self.truth, self.answers)

    @property
    def true_probabilities(self) -> Floats:
        """Return the probability of the true class, float64 (images,); NaN where it is unknown."""
        rows = np.arange(len(self.truth))
        return np.where(self.is_known, self.probabilities[rows, self.truth], np.nan)

    def known(self) -> Outcome:
        """Return only the images whose truth is known."""
        rows = np.flatnonzero(self.is_known)
        return Outcome(self.head, self.truth[rows], self.probabilities[rows], self.answers[rows])

    @property
    def judged_classes(self) -> tuple[int, ...]:
        """Return the classes that F1 and the curves consider: the positive one, or all."""
        positive, names = self.head.positive, self.head.class_names
        return (names.index(positive),) if positive is not None else tuple(range(len(names)))


def figures(outcomes: Sequence[Outcome], weights: Floats) -> dict[str, Floats]:
    """Return all figures that are resampled.

    Args:
        outcomes: Outcomes of all heads for the same images.
        weights: float64 (weightings, images): weight of each image.

    Returns:
        float64 (weightings,) by name: `LABEL_METRICS`, means over the heads; for several heads ``exact_match``, the
        share of images whose known labels are all correct, and ``head.metric``; for one head ``class.metric`` for
        precision, recall and F1.
    """
    by_head = [_head_figures(outcome, weights) for outcome in outcomes]
    result = {metric: mean_defined(np.stack([f[metric] for f in by_head])) for metric in LABEL_METRICS}
    if len(outcomes) == 1:
        return result | _class_figures(outcomes[0], weights)
    known = np.stack([outcome.is_known for outcome in outcomes])
    right = np.stack([outcome.is_right for outcome in outcomes])
    is_asked = known.any(axis=0)
    result["exact_match"] = ratio(weights @ ((right | ~known).all(axis=0) & is_asked), weights @ is_asked)
    for outcome, values in zip(outcomes, by_head, strict=True):
        result |= {f"{outcome.head.name}.{metric}": value for metric, value in values.items()}
    return result


def figure_of(outcomes: Sequence[Outcome], weights: Floats, metric: str) -> Floats:
    """Return one of `LABEL_METRICS` as in `figures`, float64 (weightings,), without computing the others."""
    return mean_defined(np.stack([_head_figure(outcome, weights, metric) for outcome in outcomes]))


def calibration_error(outcome: Outcome) -> float:
    """Return the expected calibration error of the most probable class, 15 equal bins; NaN if no truth is known.

    Naeini et al., Obtaining well calibrated probabilities using Bayesian binning, 2015; with the bins of Guo et al.,
    On calibration of modern neural networks, 2017.
    """
    counts, confidence, accuracy = bin_reliability(outcome)
    filled = counts > 0
    if not filled.any():
        return float("nan")
    return float((counts[filled] * np.abs(accuracy - confidence)[filled]).sum() / counts.sum())


def bin_reliability(outcome: Outcome) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Bin images by the probability of the most probable class.

    Returns:
        For each of the 15 bins, which include their upper edges: number of images; mean probability; share of images
        in which that class is true. NaN for a bin without images.
    """
    known = outcome.known()
    confidence = known.probabilities.max(axis=1)
    right = known.probabilities.argmax(axis=1) == known.truth
    bins = np.digitize(confidence, np.linspace(0, 1, _BINS + 1)[1:-1], right=True)
    counts = np.bincount(bins, minlength=_BINS)
    sums = [np.bincount(bins, weights=values, minlength=_BINS) for values in (confidence, right)]
    return counts, ratio(sums[0], counts), ratio(sums[1], counts)


def log_loss(outcome: Outcome) -> float:
    """Return the mean negative log-likelihood of the truth, in nats; NaN where nothing is known."""
    values = outcome.known().true_probabilities
    smallest = float(np.finfo(np.float32).tiny)
    return float(-np.log(np.maximum(values, smallest)).mean()) if len(values) else float("nan")


def _counts(outcome: Outcome, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Count correct answers, images and answers of each class for each weighting, each (weightings, classes).

    These are the diagonal, the row sums and the column sums of a confusion matrix.
    """
    classes = np.arange(len(outcome.head.class_names))
    is_class = outcome.truth[:, None] == classes
    is_said = (outcome.answers[:, None] == classes) & outcome.is_known[:, None]
    return weights @ (is_class & is_said), weights @ is_class, weights @ is_said


def _head_figures(outcome: Outcome, weights: Floats) -> dict[str, Floats]:
    counts = _counts(outcome, weights)
    under = [areas(outcome, k, weights) for k in outcome.judged_classes]
    return {name: _of_counts(outcome, counts, name) for name in LABEL_METRICS if name not in _AREAS} | {
        name: mean_defined(np.stack([pair[position] for pair in under])) for position, name in enumerate(_AREAS)
    }


def _head_figure(outcome: Outcome, weights: Floats, metric: str) -> Floats:
    if metric in _AREAS:
        under = [areas(outcome, k, weights)[_AREAS.index(metric)] for k in outcome.judged_classes]
        return mean_defined(np.stack(under))
    return _of_counts(outcome, _counts(outcome, weights), metric)


def _of_counts(outcome: Outcome, counts: tuple[Floats, Floats, Floats], metric: str) -> Floats:
    right, are, said = counts
    if metric == "accuracy":
        return ratio(right.sum(axis=1), are.sum(axis=1))
    if metric == "balanced_accuracy":
        return mean_defined(ratio(right, are).T)
    return mean_defined(ratio(2 * right, are + said)[:, list(outcome.judged_classes)].T)


def _class_figures(outcome: Outcome, weights: Floats) -> dict[str, Floats]:
    right, are, said = _counts(outcome, weights)
    values = {"precision": ratio(right, said), "recall": ratio(right, are), "f1": ratio(2 * right, are + said)}
    names = outcome.head.class_names
    return {f"{name}.{m}": values[m][:, k] for k, name in enumerate(names) for m in CLASS_METRICS}


def threshold_counts(outcome: Outcome, class_id: int, weights: Floats) -> tuple[Floats, Floats]:
    """Count the images whose probability of the class reaches each threshold, highest threshold first.

    Args:
        weights: float64 (weightings, images).

    Returns:
        Images of the class and images of others, float64 (weightings, distinct probabilities). Images whose truth is
        unknown do not count.
    """
    rows = np.flatnonzero(outcome.is_known)
    scores = outcome.probabilities[rows, class_id]
    order = np.argsort(-scores, kind="stable")
    rows, scores = rows[order], scores[order]
    ends = np.flatnonzero(np.r_[scores[1:] != scores[:-1], len(scores) > 0])  # equal scores share one threshold
    is_class = outcome.truth[rows] == class_id
    ordered = weights[:, rows]
    return (ordered * is_class).cumsum(axis=1)[:, ends], (ordered * ~is_class).cumsum(axis=1)[:, ends]


def areas(outcome: Outcome, class_id: int, weights: Floats) -> tuple[Floats, Floats]:
    """Return the areas under the ROC and precision-recall curves of one class against the others, each (weightings,).

    The second is average precision, a sum over thresholds without interpolation. NaN unless there are images of the
    class and images of others.
    """
    hits, misses = threshold_counts(outcome, class_id, weights)
    if not hits.shape[1]:
        undefined = np.full(len(weights), np.nan)
        return undefined, undefined
    positives, negatives = hits[:, -1], misses[:, -1]
    new_hits, new_misses = (np.diff(counts, axis=1, prepend=0) for counts in (hits, misses))
    # A pair of one image of each counts if it is ordered correctly, and half if the scores are equal.
    pairs = (new_misses * (hits - new_hits / 2)).sum(axis=1)
    above = hits + misses
    precision = np.divide(hits, above, out=np.zeros_like(above), where=above > 0)
    both = np.where(negatives > 0, positives, 0)
    return ratio(pairs, positives * negatives), ratio((new_hits * precision).sum(axis=1), both)
