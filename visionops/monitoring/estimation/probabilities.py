"""Read the class probabilities of records, and derive the answers from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionops.inference.bundle import Head

__all__ = ["answers_of", "probabilities_of", "split_by_head"]

Floats = npt.NDArray[np.float64]


def probabilities_of(records: pa.Table, questions: Sequence[Head]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the probabilities of all heads, float64 (images, classes of all heads), and the rows that have them.

    A record without probabilities, with another number of them, or with one that is not a number is left out.

    Args:
        records: Records with a column ``probabilities``, a list for each image.
        questions: Heads, in the order of the card.
    """
    width = sum(len(head.class_names) for head in questions)
    column = records["probabilities"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(lengths == width)
    flat = pc.list_flatten(column.take(pa.array(rows))).to_numpy(zero_copy_only=False).astype(np.float64)
    values = flat.reshape(-1, width)
    usable = np.isfinite(values).all(axis=1)
    return values[usable], rows[usable]


def split_by_head(probabilities: Floats, questions: Sequence[Head]) -> list[Floats]:
    """Split the probabilities by head, float64 (images, classes of the head) each."""
    ends = np.cumsum([len(head.class_names) for head in questions])
    return np.split(probabilities, ends[:-1], axis=1)


def answers_of(head: Head, probabilities: Floats) -> npt.NDArray[np.int64]:
    """Return the class ids that a head answers, int64 (images,), by its threshold where it has one."""
    if head.positive is None or head.threshold is None:
        return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)
    positive = head.class_names.index(head.positive)
    return np.where(probabilities[:, positive] >= head.threshold, positive, 1 - positive).astype(np.int64)
