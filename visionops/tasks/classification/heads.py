"""Fit heads on frozen features: multinomial logistic regression, solved exactly instead of by gradient steps.

Features are standardised by their mean and deviation in training. The solution is then rewritten as a linear layer on
the raw features, so that the graph needs only that layer.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionops.tasks.classification.calibration import fit_temperature, smoothed_loss
from visionops.tasks.classification.settings import Balance

__all__ = ["L2_GRID", "FrozenHead", "class_weights", "fit_head"]

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

L2_GRID = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Strengths tried on val, in falling order; each solution starts from the last one."""

_STEPS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenHead:
    """A solved head."""

    weight: Floats
    """Weights, float32 (classes, width), for raw features."""
    bias: Floats
    """Biases, float32 (classes,)."""
    l2: float


def class_weights(labels: Ids, weights: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return the weight of an image of each class that balances all classes: float64 (count,), 1 on average.

    This is scikit-learn's "balanced": total / (classes * weight of the class).
    """
    sums = np.bincount(labels, weights=weights, minlength=count)
    balanced: npt.NDArray[np.float64] = sums.sum() / (count * np.maximum(sums, np.finfo(np.float64).tiny))
    return balanced


def fit_head(
    train: tuple[Floats, Ids, npt.NDArray[np.float64]],
    val: tuple[Floats, Ids],
    num_classes: int,
    *,
    balance: Balance = Balance.NONE,
    l2: float | None = None,
) -> FrozenHead:
    """Solve for one head.

    Minimises the weighted mean of the cross entropy plus ``l2 / 2`` times the squared length of the weights on
    standardised features.

    Args:
        train: Features (images, views, width), class ids (images,) with -1 where unknown, weights (images,).
        val: Features (images, width) and class ids.
        l2: Strength; when None, the one of `L2_GRID` with the lowest loss on val at its best temperature.
    """
    features, labels, counts = train
    rows = np.flatnonzero((labels >= 0) & (counts > 0))
    labels, weights = labels[rows], counts[rows].astype(np.float64)
    of_class = np.ones(num_classes)
    if balance is Balance.WEIGHTS:
        of_class = class_weights(labels, weights, num_classes)
    num_views, width = features.shape[1:]
    x = features[rows].reshape(-1, width)
    y = np.repeat(labels, num_views)
    w = np.repeat(weights * of_class[labels], num_views)
    w /= w.sum()
    mean, deviation = _moments(x, w)
    known = np.flatnonzero(val[1] >= 0)
    candidates = (l2,) if l2 is not None else L2_GRID if len(known) else (0.1,)
    solved = _solve((x - mean) / deviation, y, w, candidates)
    heads = [_unstandardised(coef, bias, mean, deviation, strength) for coef, bias, strength in solved]
    if len(heads) == 1:
        return heads[0]
    x_val, y_val = val[0][known], val[1][known]
    losses = [_calibrated_loss(x_val @ head.weight.T + head.bias, y_val, of_class) for head in heads]
    return heads[int(np.argmin(losses))]


def _moments(x: Floats, w: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    mean = w @ x.astype(np.float64)
    deviation = np.sqrt(np.maximum(w @ np.square(x - mean), 0))
    # A constant feature has no information; dividing by its rounding error would amplify noise.
    deviation[deviation < 1e-5 * max(float(deviation.max()), 1e-5)] = np.inf
    return mean.astype(np.float32), deviation.astype(np.float32)


def _solve(
    x: Floats, y: Ids, w: npt.NDArray[np.float64], strengths: Sequence[float]
) -> list[tuple[Floats, Floats, float]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    solver = LogisticRegression(max_iter=_STEPS, tol=1e-4, warm_start=True)
    solved = []
    for strength in strengths:
        solver.C = 1 / (strength * w.sum())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            solver.fit(x, y, sample_weight=w)
        if caught:
            logging.getLogger("visionops.training").info("l2 %g: not converged in %d steps", strength, _STEPS)
        coef, bias = solver.coef_.copy(), solver.intercept_.copy()
        if len(coef) == 1:  # for two classes the solver returns the difference of their logits
            coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
        solved.append((coef, bias, strength))
    return solved


def _unstandardised(coef: Floats, bias: Floats, mean: Floats, deviation: Floats, l2: float) -> FrozenHead:
    weight = coef.astype(np.float64) / deviation
    return FrozenHead(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32), l2)


def _calibrated_loss(logits: Floats, labels: Ids, of_class: npt.NDArray[np.float64]) -> float:
    """Return the loss at the best temperature: the strength changes the size of logits, which calibration reverts."""
    return smoothed_loss(logits, labels, fit_temperature(logits, labels), of_class[labels])
