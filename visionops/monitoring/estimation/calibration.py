"""Calibrate the probabilities of one head on held-out images, and quantify the uncertainty of the calibration."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from visionops.tasks.classification.calibration import fit_temperature

__all__ = ["Calibration", "fit_calibration"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

_SMALLEST = 1e-6
"""Lower bound of 1 minus a probability: records have six places, so a probability of 1 may be anything above 1 -
5e-7."""
_PRIOR = np.array([1.0, 0.0])
_PRECISION = np.array([4.0, 1.0])
"""Normal priors of slope and offset around "the temperature is sufficient", with deviations of 0.5 and 1. Without
errors among the held-out images the likelihood alone would favour certainty; some hundred images outweigh the prior."""
_STEPS = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Calibration:
    """Temperature, then Platt scaling of each class, ``logit(p') = slope * logit(p) + offset``, then normalization.

    Platt, Probabilistic outputs for support vector machines, 1999; one class against the rest as in Zadrozny and Elkan,
    Transforming classifier scores into accurate multiclass probability estimates, 2002. With two classes, one is scaled
    and the other is the rest.
    """

    temperature: float
    """Temperature that divides the logarithms of the probabilities; 1 for a model that was calibrated on these
    images."""
    parameters: Floats
    """Most probable slopes and offsets, float64 (scaled classes, 2)."""
    drawn: Floats
    """Posterior draws of slopes and offsets, float64 (draws, scaled classes, 2)."""

    def apply(self, probabilities: Floats) -> Floats:
        """Return calibrated probabilities, float64 (images, classes), each row summing to 1.

        Args:
            probabilities: (images, classes), from the model.
        """
        return np.asarray(self._scale(probabilities, self.parameters[None])[0])

    def apply_drawn(self, probabilities: Floats, draws: slice) -> Floats:
        """Return the same for each of some drawn parameters: float64 (draws, images, classes)."""
        return self._scale(probabilities, self.drawn[draws])

    def _scale(self, probabilities: Floats, parameters: Floats) -> Floats:
        logits = _logits(_tempered(probabilities, self.temperature)[:, -parameters.shape[1] :])
        scaled = _sigmoid(logits * parameters[:, None, :, 0] + parameters[:, None, :, 1])
        if probabilities.shape[1] == 2:
            return np.concatenate([1 - scaled, scaled], axis=2)
        return np.asarray(scaled / scaled.sum(axis=2, keepdims=True))


def fit_calibration(probabilities: Floats, truth: Ids, draws: int, rng: np.random.Generator) -> Calibration:
    """Fit a calibration on held-out images.

    The uncertainty comes from Laplace's approximation of the posterior (MacKay, The evidence framework applied to
    classification networks, 1992). A bootstrap of the held-out images is overconfident where few of them are wrong:
    without any error all resamples agree.

    Args:
        probabilities: (images, classes) of images that the model was not trained on.
        truth: Class ids (images,), all known.
        draws: Number of draws.
        rng: Generator of the draws.
    """
    classes = probabilities.shape[1]
    scaled = range(1, 2) if classes == 2 else range(classes)
    temperature = fit_temperature(np.log(_kept(probabilities)), truth)
    logits = _logits(_tempered(probabilities, temperature))
    parameters, drawn = np.zeros((len(scaled), 2)), np.zeros((draws, len(scaled), 2))
    for column, k in enumerate(scaled):
        is_class = (truth == k).astype(np.float64)
        fit = _fit(logits[:, k], is_class)
        _, hessian = _derivatives(logits[:, k], is_class, fit)
        spread = np.linalg.cholesky(np.linalg.inv(hessian))
        parameters[column] = fit
        drawn[:, column] = fit + rng.standard_normal((draws, 2)) @ spread.T
    return Calibration(temperature, parameters, drawn)


def _kept(probabilities: Floats) -> Floats:
    return np.clip(probabilities.astype(np.float64), _SMALLEST, 1 - _SMALLEST)


def _tempered(probabilities: Floats, temperature: float) -> Floats:
    powers = _kept(probabilities) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _logits(probabilities: Floats) -> Floats:
    kept = _kept(probabilities)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray((1 + np.tanh(values / 2)) / 2)  # avoids overflow on either side


def _fit(logits: Floats, is_class: Floats) -> Floats:
    """Return slope and offset with the highest posterior density, by Newton's method with halved steps."""
    parameters, loss = _PRIOR.copy(), _loss(logits, is_class, _PRIOR)
    for _ in range(_STEPS):
        gradient, hessian = _derivatives(logits, is_class, parameters)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while (found := _loss(logits, is_class, parameters - size * step)) > loss and size > 1e-6:
            size /= 2
        if loss - found < 1e-12:
            break
        parameters, loss = parameters - size * step, found
    return parameters


def _loss(logits: Floats, is_class: Floats, parameters: Floats) -> float:
    values = logits * parameters[0] + parameters[1]
    likelihood = np.logaddexp(0, values) - is_class * values
    return float(likelihood.sum() + (_PRECISION * np.square(parameters - _PRIOR)).sum() / 2)


def _derivatives(logits: Floats, is_class: Floats, parameters: Floats) -> tuple[Floats, Floats]:
    """Return gradient (2,) and Hessian (2, 2) of the loss."""
    p = _sigmoid(logits * parameters[0] + parameters[1])
    inputs = np.stack([logits, np.ones_like(logits)], axis=1)
    gradient = (p - is_class) @ inputs + _PRECISION * (parameters - _PRIOR)
    hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs + np.diag(_PRECISION)
    return np.asarray(gradient), np.asarray(hessian)
