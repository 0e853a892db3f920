"""Take the test split, read its images and measure latency: the steps of every task's evaluation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.errors import DataError
from visionops.inference.predictor import Predictor

__all__ = ["class_ids_in_bundle", "measure_latency", "read_test_image", "select_test"]


def select_test(dataset: Dataset) -> Dataset:
    """Return the test split.

    Raises:
        DataError: It has no images.
    """
    test = dataset.select_split(Split.TEST)
    if not test.num_images:
        raise DataError(f"{test.name}: the test split has no images; add some, or set data.split.test")
    return test


def class_ids_in_bundle(
    name: str, folder: Path, class_names: Sequence[str], known: Sequence[str]
) -> npt.NDArray[np.int32]:
    """Return the id in the bundle of each class of a data set, matched by name in any order.

    Args:
        name: Name of the data set.
        folder: Folder of the bundle.
        known: Classes of the bundle, in order.

    Raises:
        DataError: The bundle does not know a class.
    """
    ids = {known_name: i for i, known_name in enumerate(known)}
    if unknown := [class_name for class_name in class_names if class_name not in ids]:
        raise DataError(f"{name}: the bundle {folder} does not know {', '.join(unknown)}; train it again")
    return np.array([ids[class_name] for class_name in class_names], dtype=np.int32)


def read_test_image(test: Dataset, row: int) -> bytes:
    """Return the encoded bytes of one image.

    Raises:
        DataError: The image cannot be read.
    """
    key, path = test.images["key"][row].as_py(), test.images["path"][row].as_py()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{key}: test image cannot be read ({error.strerror}: {path}); fetch the data again") from error


def measure_latency(predictor: Predictor, test: Dataset, count: int) -> dict[str, float]:
    """Return the milliseconds from encoded bytes to `Prediction`, as ``latency_ms_p50`` and ``latency_ms_p95``.

    Images run one at a time.

    Args:
        count: Maximum number of images to use.
    """
    predictor.warm_up()
    spans = []
    for row in range(min(count, test.num_images)):
        data = read_test_image(test, row)
        start = time.perf_counter()
        predictor.predict(data)
        spans.append((time.perf_counter() - start) * 1000)
    p50, p95 = np.percentile(spans, [50, 95])
    return {"latency_ms_p50": float(p50), "latency_ms_p95": float(p95)}
