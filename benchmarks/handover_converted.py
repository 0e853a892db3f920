"""Measure the cost of passing a converted data set between steps, in addition to its source data set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from benchmarks.rows import Row
from visionops.data.dataset import Dataset
from visionops.data.formats.yolo_export import write_yolo
from visionops.tasks.conversion_plan import ConversionPlan
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.detection.settings import DetectionTraining

__all__ = ["conversions", "count_sent_bytes"]


def conversions(dataset: Dataset, folder: Path, count: int) -> Iterator[ConvertedDataset]:
    """Return ``count`` conversions in YOLO layout, created in advance, because passing one moves its files."""
    plan = ConversionPlan(training=DetectionTraining())
    made = []
    for _ in range(count):
        place = folder / uuid.uuid4().hex
        write_yolo(dataset, place / "yolo")
        made.append(ConvertedDataset(dataset, plan, place))
    return iter(made)


def count_sent_bytes(dataset: Dataset, store: Any, folder: Path) -> list[Row]:
    """Count the bytes that a data set, and then its conversion, upload to a remote store.

    Args:
        dataset: Data set with hashes.
        store: Artifact store in a folder on this machine, configured as remote.
        folder: Folder for the conversion.
    """
    from zenml.steps.step_context import StepContext
    from zenml.utils import source_utils

    from materializers.converted import ConvertedMaterializer
    from materializers.dataset import DatasetMaterializer

    place = Path(store.path)
    uri = f"{place}/prepared"
    DatasetMaterializer(uri, store).save(dataset)
    sent = _bytes_below(place)
    given = SimpleNamespace(uri=uri, materializer=source_utils.resolve(DatasetMaterializer))
    step = SimpleNamespace(inputs={"prepared": [given]})
    with mock.patch.object(StepContext, "get", return_value=step):
        ConvertedMaterializer(f"{place}/converted", store).save(next(conversions(dataset, folder, 1)))
    more = _bytes_below(place) - sent
    return [
        Row("sent to a remote store: ours", sent / 1e6, "MB"),
        Row("sent to a remote store: converted, beside it", more / 1e6, "MB"),
        Row("converted / ours, bytes sent", more / sent, "x", "<= 0.1", more <= 0.1 * sent),
    ]


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
