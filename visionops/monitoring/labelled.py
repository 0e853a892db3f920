"""Evaluate a model on labelled traffic that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from visionops.data.dataset import Dataset, Split
from visionops.data.duplicates import conflicting_copies, copies_of_files
from visionops.data.findings import counted
from visionops.data.history import SplitHistory
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.inspection import inspect_images
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.monitoring.policy import Performance
from visionops.tasks.comparison import comparison_set
from visionops.tasks.spec import TaskSpec

__all__ = ["LabelledTraffic", "measure", "unseen", "untrained"]


class LabelledTraffic(BaseModel):
    """Labelled images since the model was trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    new_labels: int = 0
    """Number of images labelled since the last training."""
    performance: Performance | None = None
    """Metric of the champion on images that it has not seen."""
    decided: int | None = None
    """For a review: number of all labelled images. None where labels come from elsewhere."""
    drawn: int | None = None
    """For a review: number of labelled images drawn at random, which alone are scored."""

    def explain(self) -> str:
        """Return a one-sentence summary."""
        count = f"{counted(self.new_labels, 'image')} labelled since the last training"
        if self.decided is not None:
            count += f"; {self.drawn} of {counted(self.decided, 'image')} in review drawn at random, which alone count"
        seen = self.performance
        if seen is None:
            return count
        interval = "" if seen.interval is None else f" ({seen.interval[0]:.3f} to {seen.interval[1]:.3f})"
        left_out = f"; not counted, as the champion does not know it: {seen.left_out}" if seen.left_out else ""
        return (
            f"{count}; {seen.metric} of the champion {seen.value:.3f}{interval} on "
            f"{counted(seen.images, 'labelled image')} that it has not seen, {seen.at_test:.3f} on its test split"
            f"{left_out}"
        )


def unseen(labelled: Dataset, history: SplitHistory, policy: ValidationPolicy) -> Dataset:
    """Return the images that a training would use and that are new to a model and its predecessors.

    Left out are files that cannot be read, repeated files, files whose labels contradict each other, and copies of what
    is in the history, re-encoded or resized.

    Args:
        labelled: Labelled images with paths and ``sha256``.
        history: Split history of the model's bundle.
        policy: Validation policy, of which ``max_pixels`` and ``near_duplicate_distance`` are used.
    """
    copies = copies_of_files(labelled.column("sha256"), labelled.column("split"))
    contradicting = {row for rows in conflicting_copies(copies, labelled.label_array()) for row in rows}
    first = [rows[0] for rows in copies if rows[0] not in contradicting]
    once = labelled.take(sorted(first))
    new = once.take(np.flatnonzero(~history.has_seen(once, policy.near_duplicate_distance)))
    seen = inspect_images(new, policy.max_pixels)
    usable = [row for row, inspection in enumerate(seen) if not inspection.problem]
    new = new.replace_column("phash", [inspection.phash for inspection in seen])
    new = new.replace_column("look", [None if i.look is None else i.look.tobytes() for i in seen]).take(usable)
    return new.take(np.flatnonzero(~history.has_seen(new, policy.near_duplicate_distance)))


def untrained(labelled: Dataset, history: SplitHistory, policy: ValidationPolicy) -> Dataset:
    """Return the images that resemble none on which the model was trained or selected, for an unbiased evaluation.

    Args:
        labelled: Images from `unseen`.
    """
    return labelled.take(np.flatnonzero(~history.learned_from(labelled, policy.near_duplicate_distance)))


def measure(
    task: TaskSpec[Any], bundle: ModelBundle, labelled: Dataset, scoring: EvaluationPlan, at_test: float
) -> Performance:
    """Score the model on images that it has not seen, by the gate's metric.

    Labels that the model does not know, such as those of a new class, are left out and counted.

    Args:
        labelled: At least one image, from any split.
        at_test: The model's metric on its test split.

    Raises:
        MetricError: The metric is undefined on these images: they have no known labels, or only one class.
    """
    as_test = labelled.replace_column("split", [Split.TEST.value] * labelled.num_images)
    comparison = comparison_set(as_test, [bundle.card])
    evaluation = task.evaluate(bundle, comparison.dataset_for(bundle.card), scoring, None)
    metric = scoring.metric
    return Performance(
        metric=metric,
        value=evaluation.metrics[metric],
        interval=evaluation.intervals.get(metric),
        at_test=at_test,
        images=comparison.test.num_images,
        left_out=", ".join(comparison.left_out),
    )
