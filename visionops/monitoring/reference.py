"""What traffic is compared with.

What a model answered, and was shown, before it was served: kept in its bundle, so that the two never part. Or, by
choice, what the same model was asked before.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from visionops.data.dataset import Dataset, Split
from visionops.errors import BundleError, DataError, ImageError
from visionops.inference.bundle import ModelBundle
from visionops.inference.engines import available_cpus
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Load, Predictor
from visionops.monitoring.features import describe_image
from visionops.monitoring.record import record_of, record_schema

__all__ = ["MOST_IMAGES", "REFERENCE_FILE", "add_reference", "read_reference", "records_of", "window_reference"]

REFERENCE_FILE = "reference.parquet"
MOST_IMAGES = 5000
"""Of the validation split, spread evenly over it: enough for every test, and seconds to predict."""


def add_reference(
    bundle: ModelBundle, dataset: Dataset, report: Callable[[int], object] = lambda _done: None
) -> ModelBundle:
    """The bundle with `REFERENCE_FILE`: its own predictions for the val split of ``dataset``.

    A bundle that has one, or a data set without a val split, comes back as it is.

    Args:
        report: Told how many images are done.

    Raises:
        DataError: An image cannot be read.
    """
    val = dataset.select_split(Split.VAL)
    if REFERENCE_FILE in bundle.card.files or not val.num_images:
        return bundle
    table = pa.Table.from_pylist(records_of(bundle, val.take_evenly(MOST_IMAGES), report), schema=record_schema())
    # Until the card names the file it is not there: a run that is killed here leaves a whole bundle.
    pq.write_table(table, bundle.folder / REFERENCE_FILE)
    ModelBundle.create(bundle.folder, bundle.card)
    return ModelBundle.load(bundle.folder)


def records_of(
    bundle: ModelBundle, images: Dataset, report: Callable[[int], object] = lambda _done: None
) -> list[dict[str, Any]]:
    """A record of each image, in the order of ``images``, as the server would write it; without time and request.

    Both are of the prediction at the card's own thresholds, whatever the server answers at.

    Raises:
        DataError: An image cannot be read.
    """
    cpus = available_cpus()
    predictor = Predictor(bundle, streams=cpus, load=Load(images=1))
    names = {"model": bundle.card.name, "version": "", "digest": ""}
    records = []
    with ThreadPoolExecutor(2 * cpus) as pool:
        found = pool.map(partial(_record, predictor), images.column("key"), images.paths())
        for done, record in enumerate(found, start=1):
            records.append(record | names)
            report(done)
    return records


def read_reference(bundle: ModelBundle) -> pa.Table:
    """Its records, with the schema `record_schema`.

    Raises:
        BundleError: It has none, as a bundle of an earlier version.
    """
    if REFERENCE_FILE not in bundle.card.files:
        raise BundleError(f"{bundle.folder}: has no {REFERENCE_FILE} to compare with; train again")
    return pq.read_table(bundle.folder / REFERENCE_FILE, schema=record_schema())


def window_reference(log: pa.Table, begin: datetime, hours: float, version: str) -> pa.Table:
    """Records that a version made before a window: a reference that moves along with its traffic.

    Nothing of the window itself is in it, nor what another version answered. Where the version has not answered for
    long, these are few or none, and `detect_drift` then says "too few to say".

    Args:
        log: By `read_log`, of one model, from ``hours`` before ``begin`` at the latest.
        begin: Of the window; aware.
        hours: How far to reach back from there.
        version: Of the registered model.
    """
    when = log.schema.field("time").type
    since, until = (pa.scalar(moment, when) for moment in (begin - timedelta(hours=hours), begin))
    of_before = (pc.field("time") >= since) & (pc.field("time") < until) & (pc.field("version") == version)
    return log.filter(of_before)


def _record(predictor: Predictor, key: str, path: Path) -> dict[str, Any]:
    records: list[dict[str, Any]] = []

    def watch(rgb: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        records.append(record_of(prediction, *describe_image(rgb)))

    try:
        predictor.predict(path.read_bytes(), where=key, watch=watch)
    except (OSError, ImageError) as error:
        raise DataError(f"{key}: cannot be read ({error}); fetch the data again") from error
    return records[0]
