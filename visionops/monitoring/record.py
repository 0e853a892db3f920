"""One prediction as a row: the same in the log, in a model's reference and in a drift report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.inference.prediction import BoxPrediction, LabelPrediction, Prediction
from visionops.monitoring.features import FEATURE_NAMES

__all__ = ["FEATURE_PREFIX", "RECORD", "record_of"]

FEATURE_PREFIX: Final = "feature_"
_LISTS = ("confidences", "probabilities", "areas", "centres_x", "centres_y", "embedding")
RECORD: Final = pa.schema(
    [
        ("time", pa.timestamp("us", tz="UTC")),
        ("request_id", pa.string()),
        ("model", pa.string()),
        ("version", pa.string()),
        ("digest", pa.string()),
        ("latency_ms", pa.float32()),
        *((FEATURE_PREFIX + name, pa.float32()) for name in FEATURE_NAMES),
        ("count", pa.int32()),
        ("labels", pa.list_(pa.string())),
        *((name, pa.list_(pa.float32())) for name in _LISTS),
        ("image", pa.string()),
    ]
)
"""``labels`` and ``confidences``: of each box or attribute, as `Prediction.labels` has them; ``count``: how many.
``probabilities``: of every class of every head. ``areas``, ``centres_x``, ``centres_y``: of the boxes, as shares of the
image, its width and its height. ``embedding``: the backbone's features where it gives them, else `descriptor`.
``image``: where the image is kept, its path below the folder of the log, or of batch inference the absolute one; it may
be gone before its record is. What was written before there was this column has none."""


def record_of(
    prediction: Prediction, features: Mapping[str, float], embedding: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """The columns of `RECORD` that one image and its answer make, as plain values and an array.

    When, on whose request, by which model and how quickly is the caller's to add.

    Args:
        prediction: At the thresholds of the bundle's card, as `Predictor` gives it to ``watch``: only then can records
            be compared with each other and with the reference.
        features: By `image_features`.
        embedding: By `descriptor`, for a prediction that has none of its own.
    """
    labels = prediction.labels()
    told: dict[str, Any] = {FEATURE_PREFIX + name: features[name] for name in FEATURE_NAMES}
    told |= {"count": len(labels), "labels": [name for name, _ in labels]}
    told |= {name: [] for name in _LISTS}
    told["confidences"] = [round(confidence, 6) for _, confidence in labels]
    if isinstance(prediction, BoxPrediction) and len(prediction.boxes):
        whole = np.array([prediction.width, prediction.height] * 2, dtype=np.float32)
        boxes = np.divide(prediction.boxes, whole, dtype=np.float32)
        sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
        told["areas"] = _rounded(sides.prod(axis=1))
        told["centres_x"], told["centres_y"] = _rounded(centres[:, 0]), _rounded(centres[:, 1])
    if isinstance(prediction, LabelPrediction):
        told["probabilities"] = _rounded(np.concatenate([answer.probabilities for answer in prediction.answers]))
        if prediction.embedding.size:
            embedding = prediction.embedding
    told["embedding"] = embedding.astype(np.float32, copy=False)  # not as JSON: the log has its bytes
    return told


def _rounded(values: npt.NDArray[np.floating[Any]]) -> list[float]:
    # Six places are what float32 holds of a share; they halve the length of a line of JSON.
    rounded: list[float] = np.round(values.astype(np.float64), 6).tolist()
    return rounded
