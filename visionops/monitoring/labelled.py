"""Labelled traffic: which images a model has not seen, and how well it does on them."""

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
from visionops.evaluation.settings import Scoring
from visionops.inference.bundle import ModelBundle
from visionops.monitoring.policy import Performance
from visionops.tasks.comparison import comparison_set
from visionops.tasks.spec import TaskSpec

__all__ = ["LabelledTraffic", "measure", "unseen", "untrained"]


class LabelledTraffic(BaseModel):
    """What people have said of images since the model was made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    new_labels: int = 0
    """Images labelled since the last training."""
    performance: Performance | None = None
    """Of the champion, on those that it has not seen."""
    decided: int | None = None
    """Of a review: all images with a label. None where labels come from elsewhere."""
    drawn: int | None = None
    """Of a review: those of them that were drawn at random; only they are scored."""

    def explain(self) -> str:
        """One sentence."""
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
    """Return the images that a training would use and that are new to a model and those before it.

    Left out are files that cannot be read, repeated files, files whose labels contradict each other, and copies of what
    is in the history, re-encoded or resized.

    Args:
        labelled: With paths and ``sha256``.
        history: Of the bundle that is asked.
        policy: Its ``max_pixels`` and ``near_duplicate_distance`` are used.
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
    """Return the images that look like none that the model was trained or selected on: what it is honestly judged by.

    Args:
        labelled: By `unseen`.
    """
    return labelled.take(np.flatnonzero(~history.learned_from(labelled, policy.near_duplicate_distance)))


def measure(
    task: TaskSpec[Any], bundle: ModelBundle, labelled: Dataset, scoring: Scoring, at_test: float
) -> Performance:
    """How well the model does on images that it has not seen, by the gate's metric.

    Labels that the model does not know, as those of a new class, are left out and counted.

    Args:
        labelled: At least one image; whatever their splits.
        at_test: The model's figure on its test split.

    Raises:
        MetricError: These images do not define the metric: nothing that the model knows is on them, or one class alone.
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
