"""Define a prediction's record: the same in the log, in a model's reference and in a drift report."""

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
"""Prefix of a user-defined column's name, in drift reports."""
OPTIONAL: Final = ("source", "columns", "answer_json", "image_sha256", "arm")
"""Columns that a record has only where they have a value, so that other lines stay short."""
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
"""Columns of every log: those that all tasks share and those of built-in tasks.

``labels`` and ``confidences``: of each box or attribute, as in `Prediction.labels`; ``count``: their number.
``probabilities``: of every class of every head. ``areas``, ``centres_x``, ``centres_y``: of the boxes, as shares of the
image, its width and its height. ``embedding``: the backbone's features where available, else `descriptor`. ``image``:
path of the stored image below the folder of the log, or absolute for batch inference; the image may be removed before
its record. ``source``: the camera, line or site that sent it (`visionops.monitoring.sources`). ``columns``: values of
user-defined columns (`visionops.monitoring.columns`), a JSON object. ``answer_json``: the complete answer from
`Prediction.to_dict`, a JSON object, where the image is stored, as the starting point of a review. ``arm``: the part of
a release that answered: canary, champion, or fallback where the champion replaced a failed canary; null without a
canary. ``image_sha256``: digest of the stored image, and its name in a store. Older records do not have all columns."""


def task_columns() -> Iterator[RecordColumn]:
    """Yield the columns that all registered tasks add, each name once.

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
    """Return `RECORD` followed by the columns of tasks from packages.

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
    """Return the columns of a record for one image and its answer, as plain values and an array.

    The caller adds the time, the request, the model and the latency.

    Args:
        prediction: Prediction at the thresholds of the bundle's card, as `Predictor` passes it to ``watch``, so that
            records can be compared with each other and with the reference.
        features: Features from `image_features`.
        embedding: Embedding from `descriptor`, for a prediction without its own.
        source: Valid source (`is_source`); "" where it is unknown.
        columns: Values from `UserColumns.values`.
    """
    labels = prediction.labels()
    row: dict[str, Any] = {FEATURE_PREFIX + name: features[name] for name in FEATURE_NAMES}
    row |= {"count": len(labels), "labels": [name for name, _ in labels]}
    row |= {name: [] for name in _LISTS}
    row["confidences"] = [round(confidence, 6) for _, confidence in labels]
    row |= {name: _rounded(values) for name, values in prediction.record().items()}
    own = prediction.embedding
    row["embedding"] = (own if own.size else embedding).astype(np.float32, copy=False)  # the log stores its bytes
    if source:
        row["source"] = source
    if columns:
        row["columns"] = encode_values(columns)
    return row


def _rounded(values: float | list[float]) -> float | list[float]:
    # Six places are the precision of float32 for a share, and they halve the length of a JSON line.
    rounded: float | list[float] = np.round(np.asarray(values, dtype=np.float64), 6).tolist()
    return rounded
