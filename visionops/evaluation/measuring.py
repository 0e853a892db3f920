"""What the evaluation of every task does alike: take the test split, read its images, take the time."""

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
    """The test split.

    Raises:
        DataError: It has no images.
    """
    test = dataset.select_split(Split.TEST)
    if not test.num_images:
        raise DataError(f"{test.name}: the test split has no images; give it some, or let data.split.test cut it")
    return test


def class_ids_in_bundle(
    name: str, folder: Path, class_names: Sequence[str], known: Sequence[str]
) -> npt.NDArray[np.int32]:
    """For each class of a data set its id in the bundle: by name, whatever the order.

    Args:
        name: Of the data set.
        folder: Of the bundle.
        known: Classes of the bundle, in its order.

    Raises:
        DataError: The bundle does not know a class.
    """
    ids = {known_name: i for i, known_name in enumerate(known)}
    if unknown := [class_name for class_name in class_names if class_name not in ids]:
        raise DataError(f"{name}: the bundle {folder} does not know {', '.join(unknown)}; train it again")
    return np.array([ids[class_name] for class_name in class_names], dtype=np.int32)


def read_test_image(test: Dataset, row: int) -> bytes:
    """The encoded bytes of one image.

    Raises:
        DataError: They cannot be read.
    """
    key, path = test.images["key"][row].as_py(), test.images["path"][row].as_py()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{key}: test image cannot be read ({error.strerror}: {path}); fetch the data again") from error


def measure_latency(predictor: Predictor, test: Dataset, count: int) -> dict[str, float]:
    """Milliseconds from encoded bytes to `Prediction`, one image at a time: ``latency_ms_p50``, ``latency_ms_p95``.

    Args:
        count: Images to take, at most.
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
