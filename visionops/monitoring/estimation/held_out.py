"""Store a model's probabilities of its val split with the truth in its bundle, to calibrate estimates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.dataset import Dataset, Split
from visionops.data.layers import Attribute
from visionops.inference.bundle import Head, ModelBundle
from visionops.monitoring.estimation.probabilities import probabilities_of
from visionops.monitoring.reference import MOST_IMAGES, REFERENCE_FILE, read_reference
from visionops.tasks.spec import task_for

__all__ = ["HELD_OUT_FILE", "HeldOut", "add_held_out", "read_held_out", "truth_of"]

HELD_OUT_FILE = "held_out.parquet"
_SCHEMA = pa.schema([("probabilities", pa.list_(pa.float32())), ("truth", pa.list_(pa.int32()))])


@dataclasses.dataclass(frozen=True, slots=True)
class HeldOut:
    """Images that a model was not trained on."""

    probabilities: npt.NDArray[np.float64]
    """(images, classes of all heads), as in the records."""
    truth: npt.NDArray[np.int64]
    """Class ids (images, heads), by head; -1 where unknown."""


def add_held_out(bundle: ModelBundle, dataset: Dataset) -> ModelBundle:
    """Return the bundle with `HELD_OUT_FILE`: the probabilities of its reference, and the labels of those images.

    A bundle that already has one, has no reference, or has a task without class probabilities is returned unchanged.

    Args:
        dataset: Data set on whose val split the reference of the bundle was made.
    """
    questions = task_for(bundle.card.task).questions(bundle.card)
    if HELD_OUT_FILE in bundle.card.files or REFERENCE_FILE not in bundle.card.files or not questions:
        return bundle
    val = dataset.select_split(Split.VAL).take_evenly(MOST_IMAGES)
    column = read_reference(bundle)["probabilities"]
    if len(column) != val.num_images:
        return bundle  # the reference is of another val split
    truth = truth_of(val, questions)
    table = pa.table([column.cast(_SCHEMA.field(0).type), pa.array(truth.tolist(), _SCHEMA.field(1).type)], _SCHEMA)
    # The card names the file only later, so a run that is killed here leaves a valid bundle.
    pq.write_table(table, bundle.folder / HELD_OUT_FILE)
    ModelBundle.create(bundle.folder, bundle.card)
    return ModelBundle.load(bundle.folder)


def read_held_out(bundle: ModelBundle) -> HeldOut | None:
    """Return the data from `add_held_out`; None for an older bundle, or for a task without class probabilities."""
    if HELD_OUT_FILE not in bundle.card.files:
        return None
    questions = task_for(bundle.card.task).questions(bundle.card)
    table = pq.read_table(bundle.folder / HELD_OUT_FILE, schema=_SCHEMA)
    probabilities, rows = probabilities_of(table, questions)
    truth = np.array(table["truth"].to_pylist(), dtype=np.int64).reshape(-1, len(questions))
    return HeldOut(probabilities, truth[rows])


def truth_of(dataset: Dataset, questions: Sequence[Head]) -> npt.NDArray[np.int64]:
    """Return the labels of a data set as class ids of heads, int64 (images, heads); -1 where there is none.

    Attributes and classes are matched by name; a single attribute matches a single head.
    """
    labels, attributes = dataset.label_array(), dataset.attributes
    truth = np.full((dataset.num_images, len(questions)), -1, dtype=np.int64)
    for column, head in enumerate(questions):
        found = _attribute(head, len(questions) == 1, attributes)
        if found is None:
            continue
        ids = [head.class_names.index(name) if name in head.class_names else -1 for name in found.class_names]
        given = labels[:, attributes.index(found)]
        truth[:, column] = np.where(given >= 0, np.array(ids, dtype=np.int64)[given], -1)
    return truth


def _attribute(head: Head, is_alone: bool, attributes: Sequence[Attribute]) -> Attribute | None:
    if is_alone and len(attributes) == 1:
        return attributes[0]
    return next((attribute for attribute in attributes if attribute.name == head.name), None)
