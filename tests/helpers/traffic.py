"""Make records of predictions, as in a log, without a model."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.settings import DriftSettings

__all__ = ["compare_traffic"]

_COLUMNS = ("feature_brightness", "feature_contrast", "feature_saturation", "feature_sharpness")


def compare_traffic(moved: Collection[str] = ("feature_brightness",)) -> DriftReport:
    """Return the drift report on eight columns when some of these change: features, ``areas``, ``embedding``."""
    return detect_drift(_records(0), _records(1, moved), DriftSettings(permutations=999))


def _records(seed: int, moved: Collection[str] = (), images: int = 100) -> pa.Table:
    """Return records of images with a box each, in the record's types."""
    rng = np.random.default_rng(seed)
    lists = pa.list_(pa.float32())
    numbers = {name: rng.normal(0.7 if name in moved else 0.5, 0.1, images) for name in (*_COLUMNS, "areas")}
    areas = numbers.pop("areas")
    vectors = rng.normal(1.0 if "embedding" in moved else 0.0, 1, (images, 4))
    return pa.table(
        {name: pa.array(values, pa.float32()) for name, values in numbers.items()}
        | {
            "count": pa.array(rng.poisson(2, images), pa.int32()),
            "confidences": pa.array([[value] for value in rng.uniform(0.3, 1, images)], lists),
            "areas": pa.array([[value] for value in areas], lists),
            "embedding": pa.array(list(vectors), lists),
        }
    )
