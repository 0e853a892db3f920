"""What traffic is compared with.

What a model answered, and was shown, before it was served: kept in its bundle, so that the two never part. Or, by
choice, what the same model was asked before.
"""

from __future__ import annotations

import dataclasses
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
from visionops.inference.record_rules import RecordRules
from visionops.monitoring.columns import UserColumns
from visionops.monitoring.features import describe_image
from visionops.monitoring.record import OPTIONAL, record_of, record_schema
from visionops.monitoring.sources import source_of

__all__ = ["MOST_IMAGES", "REFERENCE_FILE", "add_reference", "read_reference", "records_of", "window_reference"]

REFERENCE_FILE = "reference.parquet"
MOST_IMAGES = 5000
"""Of the validation split, spread evenly over it: enough for every test, and seconds to predict."""


def add_reference(
    bundle: ModelBundle,
    dataset: Dataset,
    report: Callable[[int], object] = lambda _done: None,
    rules: RecordRules | None = None,
) -> ModelBundle:
    """The bundle with `REFERENCE_FILE`: its own predictions for the val split of ``dataset``.

    A bundle that has one by the same rules, or a data set without a val split, comes back as it is.

    Args:
        report: Told how many images are done.
        rules: Sealed into the card, for every later record of the model; those of the card when absent.

    Raises:
        ConfigError: A function of the rules cannot be imported.
        DataError: An image cannot be read, or one of these functions fails on it.
    """
    val = dataset.select_split(Split.VAL)
    is_made = REFERENCE_FILE in bundle.card.files and rules in (None, bundle.card.records)
    if is_made or not val.num_images:
        return bundle
    if rules is not None:
        bundle = dataclasses.replace(bundle, card=bundle.card.model_copy(update={"records": rules}))
    table = pa.Table.from_pylist(records_of(bundle, val.take_evenly(MOST_IMAGES), report), schema=record_schema())
    empty = [name for name in OPTIONAL if table[name].null_count == len(table)]
    table = table.drop_columns(empty)  # without sources and columns the file is what it was
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
        ConfigError: A function of the card's rules cannot be imported.
        DataError: An image cannot be read, or one of these functions fails on it.
    """
    columns = UserColumns.load(bundle.card.records.columns)
    cpus = available_cpus()
    predictor = Predictor(bundle, streams=cpus, load=Load(images=1))
    names = {"model": bundle.card.name, "version": "", "digest": ""}
    records = []
    with ThreadPoolExecutor(2 * cpus) as pool:
        found = pool.map(partial(_record, predictor, columns), images.column("key"), images.paths())
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


def _record(predictor: Predictor, columns: UserColumns, key: str, path: Path) -> dict[str, Any]:
    records: list[dict[str, Any]] = []
    source = source_of(predictor.bundle.card.records.source_pattern, key)

    def watch(rgb: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        values = columns.values(rgb, prediction, fail)
        records.append(record_of(prediction, *describe_image(rgb), source=source, columns=values))

    def fail(name: str, error: BaseException) -> None:
        # Here, and not in the log: a reference without the column would say nothing of all later traffic.
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"monitoring.columns.{name}: fails on {key} ({why}); correct the function")

    try:
        predictor.predict(path.read_bytes(), where=key, watch=watch)
    except (OSError, ImageError) as error:
        raise DataError(f"{key}: cannot be read ({error}); fetch the data again") from error
    return records[0]
