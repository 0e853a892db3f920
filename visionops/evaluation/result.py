"""`Evaluation`: how good a bundle is on a test split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["Evaluation"]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a bundle is on the test split, measured with the engine that will serve it.

    ``folder`` holds ``evaluation.json`` (this object), ``report.html`` (self-contained) and the pictures; it is
    an empty path where only the figures were wanted.
    """

    folder: Path
    metrics: dict[str, float]
    """Over all classes: the metrics of the task, ``latency_ms_p50``, ``latency_ms_p95`` and more."""
    per_class: dict[str, dict[str, float]]
    """Class (boxes, classification) or attribute name to its figures; NaN where one is not defined."""
    num_images: int
    test_fingerprint: str
    """Of the test split: two evaluations compare only when it is equal."""
    bundle_digest: str
    engine: str
    precision: str
    headline: tuple[str, ...] = ("map50", "map50_95", "precision", "recall")
    """The metrics that a person looks at first."""
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Metric to its 95 % confidence interval, where the task resamples."""
    replicates: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Metric to its value on each bootstrap resample of the test images. The draws depend on the number of images and
    resamples alone, so that two evaluations on one test split can be compared draw by draw."""
