"""Estimate a metric from probabilities: the expected confusion matrix, and draws of the truth for an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from visionops.data.findings import counted
from visionops.evaluation.resampling import mean_defined
from visionops.inference.bundle import Head
from visionops.monitoring.estimation.calibration import Calibration, fit_calibration
from visionops.monitoring.estimation.held_out import HeldOut
from visionops.monitoring.estimation.probabilities import answers_of, split_by_head
from visionops.monitoring.settings import EstimationSettings
from visionops.tasks.classification.scoring import LABEL_METRICS, Outcome, figure_of

__all__ = ["MOST_IMAGES", "Estimator", "TooFewError", "WindowEstimate"]

Floats = npt.NDArray[np.float64]

MOST_IMAGES: Final = 5000
"""Maximum number of images of a window for the interval, spread evenly; a longer one gets an interval that is too
wide."""
_CELLS: Final = 1_000_000
"""Maximum number of weights in memory at once."""
_MIN_OF_CLASS: Final = 5
"""Least expected number of images of each class, because with fewer its recall is too uncertain."""


class TooFewError(Exception):
    """There are too few images to estimate; the message has the reason. This error never leaves the package."""


@dataclasses.dataclass(frozen=True, slots=True)
class WindowEstimate:
    """Estimate of the metric of a window."""

    value: float
    low: float
    high: float
    """95 % interval in which the metric would lie if all images of the window were labelled."""


class Estimator:
    """Estimator of one metric of one model on any window.

    Args:
        questions: Heads of the model, in the order of its card.
        metric: Metric of the gate.

    Raises:
        TooFewError: The metric is not one of `LABEL_METRICS`, or the held-out images cannot calibrate a head.
    """

    def __init__(self, questions: Sequence[Head], held_out: HeldOut, metric: str, settings: EstimationSettings) -> None:
        if metric not in LABEL_METRICS:
            raise TooFewError(f"{metric} cannot be estimated without labels; {', '.join(LABEL_METRICS)} can")
        self._questions, self._metric, self._settings = tuple(questions), metric, settings
        rng = np.random.default_rng([settings.seed, 0])
        self._calibrations = [
            self._calibrate(head, probabilities, held_out.truth[:, column], rng)
            for column, (head, probabilities) in enumerate(
                zip(questions, split_by_head(held_out.probabilities, questions), strict=True)
            )
        ]

    def _calibrate(
        self, head: Head, probabilities: Floats, truth: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> Calibration:
        known = np.flatnonzero(truth >= 0)
        if len(known) < self._settings.min_held_out:
            raise TooFewError(
                f"{counted(len(known), 'labelled val image')} of {head.name} are too few to calibrate on "
                f"({self._settings.min_held_out} needed)"
            )
        if len(np.unique(truth[known])) < 2:
            raise TooFewError(f"all val images of {head.name} have the same class, so it cannot be calibrated")
        return fit_calibration(probabilities[known], truth[known], self._settings.draws, rng)

    def estimate(self, probabilities: Floats) -> WindowEstimate:
        """Estimate the metric of a window. The same images, in the same order, give the same result.

        The value is that of the expected confusion matrix (for areas, of the expected counts at each threshold). For
        the interval, calibrations are drawn, then for each the truth of every image, and each draw is scored. The
        classes of several heads are drawn independently of each other.

        Args:
            probabilities: (images, classes of all heads), from the records.

        Raises:
            TooFewError: There are too few images, or too few of a class.
        """
        images = len(probabilities)
        if images < self._settings.min_images:
            raise TooFewError(
                f"{counted(images, 'prediction')} are too few to estimate from ({self._settings.min_images} needed)"
            )
        if images > MOST_IMAGES:
            probabilities = probabilities[np.linspace(0, images - 1, MOST_IMAGES).astype(np.int64)]
        parts = split_by_head(probabilities, self._questions)
        answers = [answers_of(head, part) for head, part in zip(self._questions, parts, strict=True)]
        outcomes = [_as_every_class(*of_head) for of_head in zip(self._questions, parts, answers, strict=True)]
        value = self._expected(parts, outcomes)
        low, high = np.nanpercentile(self._drawn(parts, outcomes), [2.5, 97.5])
        return WindowEstimate(value, min(float(low), value), max(float(high), value))

    def _expected(self, parts: Sequence[Floats], outcomes: Sequence[Outcome]) -> float:
        figures = []
        for head, calibration, part, outcome in zip(self._questions, self._calibrations, parts, outcomes, strict=True):
            expected = calibration.apply(part)
            self._require_classes(head, expected)
            figures.append(figure_of([outcome], expected.reshape(1, -1), self._metric)[0])
        return float(np.mean(figures))

    def _require_classes(self, head: Head, expected: Floats) -> None:
        if self._metric == "accuracy":
            return  # defined for any classes
        counts = expected.sum(axis=0)
        fewest = int(counts.argmin())
        if counts[fewest] < _MIN_OF_CLASS:
            raise TooFewError(
                f"about {counted(round(counts[fewest]), 'image')} of {head.class_names[fewest]} are too few to "
                f"estimate {self._metric} from ({_MIN_OF_CLASS} needed)"
            )

    def _drawn(self, parts: Sequence[Floats], outcomes: Sequence[Outcome]) -> Floats:
        """Return the metric of every draw, (draws,)."""
        rng = np.random.default_rng([self._settings.seed, 1])
        figures = []
        for calibration, part, outcome in zip(self._calibrations, parts, outcomes, strict=True):
            batch, of_head = max(1, _CELLS // part.size), []
            for start in range(0, self._settings.draws, batch):
                sums = calibration.apply_drawn(part, slice(start, start + batch)).cumsum(axis=2)
                truth = (rng.random((*sums.shape[:2], 1)) >= sums[..., :-1]).sum(axis=2)
                is_drawn = truth[..., None] == np.arange(part.shape[1])
                weights = is_drawn.reshape(len(sums), -1).astype(np.float64)
                of_head.append(figure_of([outcome], weights, self._metric))
            figures.append(np.concatenate(of_head))
        return mean_defined(np.stack(figures))


def _as_every_class(head: Head, probabilities: Floats, answers: npt.NDArray[np.int64]) -> Outcome:
    """Return each image once for every class, so that weights select its class or distribute it by probability."""
    images, classes = probabilities.shape
    return Outcome(
        head,
        np.tile(np.arange(classes), images),
        np.repeat(probabilities, classes, axis=0),
        np.repeat(answers, classes),
    )
