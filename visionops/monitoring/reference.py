"""Build and read the reference with which traffic is compared.

The reference is a model's predictions for its val split, stored in its bundle so that the two stay together.
Optionally it is the same model's earlier traffic.
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
"""Maximum number of images of the validation split, spread evenly: enough for every test, and fast to predict."""


def add_reference(
    bundle: ModelBundle,
    dataset: Dataset,
    report: Callable[[int], object] = lambda _done: None,
    rules: RecordRules | None = None,
) -> ModelBundle:
    """Return the bundle with `REFERENCE_FILE`: its own predictions for the val split of ``dataset``.

    A bundle that already has one with the same rules, or a data set without a val split, leaves the bundle unchanged.

    Args:
        report: Called with the number of finished images.
        rules: Rules to store in the card, for every later record of the model; those of the card when None.

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
    table = table.drop_columns(empty)  # without sources and columns the file stays unchanged
    # The card names the file only later, so a run that is killed here leaves a valid bundle.
    pq.write_table(table, bundle.folder / REFERENCE_FILE)
    ModelBundle.create(bundle.folder, bundle.card)
    return ModelBundle.load(bundle.folder)


def records_of(
    bundle: ModelBundle, images: Dataset, report: Callable[[int], object] = lambda _done: None
) -> list[dict[str, Any]]:
    """Return a record of each image, in order, as the server would write it but without time and request.

    They use the prediction at the card's own thresholds, whatever the server's thresholds.

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
    """Return the records of the reference, with the schema `record_schema`.

    Raises:
        BundleError: The bundle has none, such as one of an earlier version.
    """
    if REFERENCE_FILE not in bundle.card.files:
        raise BundleError(f"{bundle.folder}: has no {REFERENCE_FILE} to compare with; train again")
    return pq.read_table(bundle.folder / REFERENCE_FILE, schema=record_schema())


def window_reference(log: pa.Table, begin: datetime, hours: float, version: str) -> pa.Table:
    """Return the records of a version before a window: a sliding reference that moves with its traffic.

    It excludes the window itself and records of other versions. A new version has few or no records, and `detect_drift`
    then reports "too few to say".

    Args:
        log: Log from `read_log`, of one model, starting at least ``hours`` before ``begin``.
        begin: Begin of the window; aware.
        hours: Hours before the begin of the window.
        version: Version of the registered model.
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
        # Fail here, although the log continues: without the column in the reference, all later traffic could not be
        # compared.
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"monitoring.columns.{name}: the function failed on {key} ({why}); correct it")

    try:
        predictor.predict(path.read_bytes(), where=key, watch=watch)
    except (OSError, ImageError) as error:
        raise DataError(f"{key}: cannot be read ({error}); fetch the data again") from error
    return records[0]
