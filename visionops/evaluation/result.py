"""`Evaluation`: the metrics of a bundle on a test split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

__all__ = ["Evaluation"]


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of a bundle on the test split, measured with the engine that will serve it.

    ``folder`` holds ``evaluation.json`` (this object), ``report.html`` (self-contained) and the pictures; it is
    an empty path if only the metrics were requested.
    """

    folder: Path
    metrics: dict[str, float]
    """Metrics over all classes: those of the task, ``latency_ms_p50``, ``latency_ms_p95`` and more."""
    per_class: dict[str, dict[str, float]]
    """Maps a class (boxes, classification) or attribute to its metrics; NaN where one is not defined."""
    num_images: int
    test_fingerprint: str
    """Fingerprint of the test split: two evaluations can be compared only if it is equal."""
    bundle_digest: str
    engine: str
    precision: str
    headline: tuple[str, ...] = ("map50", "map50_95", "precision", "recall")
    """Metrics to show first."""
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Maps a metric to its 95 % confidence interval, if the task resamples."""
    replicates: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    """Maps a metric to its value on each bootstrap resample of the test images. The draws depend only on the number of
    images and resamples, so that two evaluations on one test split can be compared draw by draw."""
