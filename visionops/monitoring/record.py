"""One prediction as a row: the same in the log, in a model's reference and in a drift report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.inference.prediction import Prediction
from visionops.inference.task import RecordColumn
from visionops.inference.task_registry import all_tasks
from visionops.monitoring.columns import Value, encode_values
from visionops.monitoring.features import FEATURE_NAMES

__all__ = [
    "COLUMN_PREFIX",
    "FEATURE_PREFIX",
    "OPTIONAL",
    "RECORD",
    "record_of",
    "record_schema",
    "task_columns",
]

FEATURE_PREFIX: Final = "feature_"
COLUMN_PREFIX: Final = "column:"
"""Before the name of a user's column, in drift reports."""
OPTIONAL: Final = ("source", "columns", "answer_json", "image_sha256", "arm")
"""Columns that a record has only where there is something to say: without them a line is as short as it was."""
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
        *((name, pa.string()) for name in OPTIONAL),
    ]
)
"""The columns of every log: those that all tasks share and those of our own.

``labels`` and ``confidences``: of each box or attribute, as `Prediction.labels` has them; ``count``: how many.
``probabilities``: of every class of every head. ``areas``, ``centres_x``, ``centres_y``: of the boxes, as shares of the
image, its width and its height. ``embedding``: the backbone's features where it gives them, else `descriptor`.
``image``: where the image is kept, its path below the folder of the log, or of batch inference the absolute one; it may
be gone before its record is. ``source``: the camera, line or site that sent it (`visionops.monitoring.sources`).
``columns``: values of the user's columns (`visionops.monitoring.columns`), a JSON object. ``answer_json``: the whole
answer by `Prediction.to_dict`, a JSON object, where the image is kept: what a reviewer begins with. ``arm``: which
part of a release answered, canary, champion, or fallback where the champion stepped in for a canary that failed; none
while there is no canary. ``image_sha256``: digest of the image that is kept; a store has it by this name. What was
written before there were these columns has none."""


def task_columns() -> Iterator[RecordColumn]:
    """Yield the columns that all registered tasks bring, each name once.

    Raises:
        TaskError: The package of a task cannot be imported.
    """
    seen: set[str] = set()
    for task in all_tasks():
        for column in task.record_columns:
            if column.name not in seen:
                seen.add(column.name)
                yield column


def record_schema() -> pa.Schema:
    """Return `RECORD` and behind it the columns of tasks that packages bring.

    Raises:
        TaskError: The package of a task cannot be imported.
    """
    brought = [column for column in task_columns() if column.name not in RECORD.names]
    kinds = {True: pa.list_(pa.float32()), False: pa.float32()}
    return pa.schema([*RECORD, *(pa.field(column.name, kinds[column.is_list]) for column in brought)])


def record_of(
    prediction: Prediction,
    features: Mapping[str, float],
    embedding: npt.NDArray[np.float32],
    *,
    source: str = "",
    columns: Mapping[str, Value] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the columns of a record that one image and its answer make, as plain values and an array.

    When, on whose request, by which model and how quickly is the caller's to add.

    Args:
        prediction: At the thresholds of the bundle's card, as `Predictor` gives it to ``watch``: only then can records
            be compared with each other and with the reference.
        features: By `image_features`.
        embedding: By `descriptor`, for a prediction that has none of its own.
        source: By `is_source`; "" where it is not known.
        columns: By `UserColumns.values`.
    """
    labels = prediction.labels()
    told: dict[str, Any] = {FEATURE_PREFIX + name: features[name] for name in FEATURE_NAMES}
    told |= {"count": len(labels), "labels": [name for name, _ in labels]}
    told |= {name: [] for name in _LISTS}
    told["confidences"] = [round(confidence, 6) for _, confidence in labels]
    told |= {name: _rounded(values) for name, values in prediction.record().items()}
    own = prediction.embedding
    told["embedding"] = (own if own.size else embedding).astype(np.float32, copy=False)  # the log has its bytes
    if source:
        told["source"] = source
    if columns:
        told["columns"] = encode_values(columns)
    return told


def _rounded(values: float | list[float]) -> float | list[float]:
    # Six places are what float32 holds of a share; they halve the length of a line of JSON.
    rounded: float | list[float] = np.round(np.asarray(values, dtype=np.float64), 6).tolist()
    return rounded
