"""Compare champion and candidate on the labelled traffic that each of them answered (A/B evaluation).

Only images that were drawn at random count, as for every measure of a model's quality on its traffic. Each arm has its
own images, so the difference is between two independent samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import counted
from visionops.errors import MetricError
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.review.image_cache import cache_images
from visionops.review.items import UseCase
from visionops.review.service import Review
from visionops.review.versions import dataset_from
from visionops.tasks.comparison import comparison_set
from visionops.tasks.spec import TaskSpec

__all__ = ["Arm", "ArmComparison", "arm_line", "compare_arms", "labelled_arms"]

_SEED = 0
_LEVELS = (2.5, 97.5)


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """A model with its metric on the labelled images that it answered."""

    version: str
    images: int
    value: float
    interval: tuple[float, float] | None
    """95 % interval; None where the task does not resample."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArmComparison:
    """Both models, and the lead of the candidate."""

    metric: str
    champion: Arm
    candidate: Arm
    difference: float
    """Candidate minus champion."""
    interval: tuple[float, float] | None
    """95 % interval of the difference; None where the task does not resample."""

    def explain(self) -> str:
        """Return a one-sentence summary."""
        if self.interval is None:
            return f"{self.metric} differs by {self.difference:+.3f}; nothing says whether that is chance"
        low, high = self.interval
        said = "may be chance" if low <= 0 <= high else "is more than chance"
        return f"{self.metric} differs by {self.difference:+.3f} ({low:+.3f} to {high:+.3f}), which {said}"


def labelled_arms(review: Review, use_case: UseCase, versions: tuple[str, ...], cache: Path) -> dict[str, Dataset]:
    """Return the labelled random share of each version's own traffic; versions without any are left out.

    Args:
        versions: Registered versions of the model with the use case's name.
        cache: Folder for images, by their content.

    Raises:
        Unavailable: Database or images cannot be reached.
        DataError: ``cache`` cannot be written.
    """
    answered: dict[str, list[Any]] = {}
    for one in review.store.decided(use_case.name):
        predicted = one.item.predicted
        if one.is_random and one.decision.verdict.has_label and predicted and predicted.version in versions:
            answered.setdefault(predicted.version, []).append(one)
    found = [one for ones in answered.values() for one in ones]
    cache_images(review.images, [one.item.image for one in found], cache)
    return {version: dataset_from(use_case, ones, cache) for version, ones in answered.items()}


def compare_arms(
    task: TaskSpec[Any],
    champion: tuple[str, ModelBundle],
    candidate: tuple[str, ModelBundle],
    arms: Mapping[str, Dataset],
    scoring: EvaluationPlan,
) -> ArmComparison:
    """Score both models, each on its own labelled images, by the gate's metric.

    Classes that one of them does not know are ignored for both.

    Args:
        champion: Version and bundle.
        candidate: Version and bundle.
        arms: Labelled images from `labelled_arms`.

    Raises:
        MetricError: An arm has no labelled image, or its images do not define the metric.
    """
    cards = [bundle.card for _, bundle in (champion, candidate)]
    scored, replicates = [], []
    for version, bundle in (champion, candidate):
        if version not in arms:
            raise MetricError(
                f"version {version} has no labelled image of its own traffic; label images drawn at random in review"
            )
        labelled = arms[version]
        as_test = labelled.replace_column("split", [Split.TEST.value] * labelled.num_images)
        comparison = comparison_set(as_test, cards)
        evaluation = task.evaluate(bundle, comparison.dataset_for(bundle.card), scoring.brief(), None)
        interval = evaluation.intervals.get(scoring.metric)
        scored.append(Arm(version, comparison.test.num_images, evaluation.metrics[scoring.metric], interval))
        replicates.append(np.asarray(evaluation.replicates.get(scoring.metric, ()), np.float64))
    theirs, ours = scored
    return ArmComparison(
        metric=scoring.metric,
        champion=theirs,
        candidate=ours,
        difference=ours.value - theirs.value,
        interval=_difference(replicates[1], replicates[0]),
    )


def arm_line(role: str, arm: Arm) -> str:
    """Return one line of a table."""
    interval = "" if arm.interval is None else f" ({arm.interval[0]:.3f} to {arm.interval[1]:.3f})"
    return f"{role} version {arm.version}: {arm.value:.3f}{interval} on {counted(arm.images, 'labelled image')}"


def _difference(ours: Any, theirs: Any) -> tuple[float, float] | None:
    """Return the percentile interval of the difference of two independent samples.

    Resampling draws the same indexes where both have equally many images; shuffling one sample makes them independent.
    """
    ours, theirs = ours[~np.isnan(ours)], theirs[~np.isnan(theirs)]
    count = min(len(ours), len(theirs))
    if not count:
        return None
    shuffled = np.random.default_rng(_SEED).permutation(theirs)[:count]
    low, high = np.percentile(ours[:count] - shuffled, _LEVELS)
    return float(low), float(high)
