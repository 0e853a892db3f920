"""Calibrate a classifier: a temperature that makes confidences frequencies, and a threshold for a goal."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from visionops.tasks.classification.settings import GoalMetric, ThresholdGoal

__all__ = ["choose_threshold", "fit_temperature", "smoothed_loss"]

_LIMITS = (0.02, 50.0)


def fit_temperature(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature with the lowest loss (Guo et al., On calibration of modern neural networks, 2017).

    Where every image is right, the likelihood alone would favour certainty; `smoothed_loss` does not.

    Args:
        logits: (images, classes), before any temperature.
        labels: Class ids (images,), all known.

    Returns:
        Temperature; 1 without images.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return 1.0
    low, high = np.log(_LIMITS)
    found = minimize_scalar(
        lambda t: smoothed_loss(logits, labels, float(np.exp(t))), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))


def smoothed_loss(
    logits: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    temperature: float,
    weights: npt.NDArray[np.float64] | None = None,
) -> float:
    """Return the mean cross entropy in nats, with targets smoothed according to the number of images.

    By Laplace's rule of succession, after N images that are all right the next one is right with probability
    ``(N + 1) / (N + 2)``. This is the target of the true class, and the other classes share the rest. (Platt,
    Probabilistic outputs for support vector machines, 1999, smooths each class separately, which blurs many classes.)

    Args:
        weights: Weight of each image.
    """
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    log_probabilities = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    count, classes = logits.shape
    rest = 1 / (count + 2)
    truth = log_probabilities[np.arange(count), labels]
    others = (log_probabilities.sum(axis=1) - truth) / (classes - 1)
    losses = -((1 - rest) * truth + rest * others)
    return float(np.average(losses, weights=weights))


def choose_threshold(
    probabilities: npt.NDArray[np.floating], is_positive: npt.NDArray[np.bool_], goal: ThresholdGoal, head: str
) -> float | None:
    """Return the probability from which the positive class is answered.

    Candidates are midway between adjacent probabilities. Of equally good ones the nearest to one half is chosen.

    Args:
        probabilities: Calibrated probability of the positive class, (images,).
        is_positive: Truth, bool (images,).
        head: Name of the head, for warnings.

    Returns:
        Threshold; None where there is no goal, or val has images of only one class.
    """
    log = logging.getLogger("visionops.training")
    if goal.metric is GoalMetric.NONE:
        return None
    if is_positive.all() or not is_positive.any():
        log.warning(
            "training.threshold: the val split has only one class of %s, so its threshold stays at 0.5; add images",
            head,
        )
        return None
    probabilities = probabilities.astype(np.float64)
    values = np.unique(probabilities)
    candidates = np.concatenate([[values[0] / 2], (values[1:] + values[:-1]) / 2, [(values[-1] + 1) / 2]])
    if not (candidates == 0.5).any():
        candidates = np.append(candidates, 0.5)
    said = len(probabilities) - np.searchsorted(np.sort(probabilities), candidates).astype(np.float64)
    hits = is_positive.sum() - np.searchsorted(np.sort(probabilities[is_positive]), candidates).astype(np.float64)
    recall = hits / is_positive.sum()
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    if goal.metric is GoalMetric.F1:
        score = 2 * hits / (said + is_positive.sum())
    elif goal.metric is GoalMetric.BALANCED_ACCURACY:
        score = (recall + 1 - (said - hits) / (~is_positive).sum()) / 2
    else:
        reached = precision >= goal.precision
        if not reached.any():
            log.warning(
                "training.threshold: no threshold of %s has a precision of %g on val; the nearest, %.3f, is used "
                "(with recall %.3f)",
                head,
                goal.precision,
                precision.max(),
                recall[precision >= precision.max()].max(),
            )
            reached = precision >= precision.max()
        score = np.where(reached, recall, -1.0)
    best = np.flatnonzero(score >= score.max() - 1e-12)
    return float(candidates[best[np.argmin(np.abs(candidates[best] - 0.5))]])
