"""Derive drift columns from a classifier's probabilities: each class's probability, and each answer's entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionops.inference.bundle import Head
from visionops.inference.task import ENTROPY_PREFIX, PROBABILITY_PREFIX

__all__ = ["MOST_CLASSES", "probability_columns"]

MOST_CLASSES = 20
"""Maximum number of classes whose probabilities are compared; for a larger head only the entropy is, because the
correction for hundreds of columns would hide all others."""


def probability_columns(heads: Sequence[Head], records: pa.Table, *, is_single: bool) -> dict[str, pa.Array]:
    """Return the probability of each class and the entropy of each head in bits, as float32 (rows,).

    Two classes give one probability, because the other is redundant. A single head with two classes and no threshold
    gives no entropy, because it orders images as ``confidences`` does, which is compared anyway.

    Args:
        heads: Heads in the order of ``probabilities``.
        records: Records with the column ``probabilities``; a row of another length counts as missing.
        is_single: Whether there is a single question, whose answer has no name.
    """
    shares = _read_shares(records, sum(len(head.class_names) for head in heads))
    found: dict[str, pa.Array] = {}
    begin = 0
    for head in heads:
        own = shares[:, begin : begin + len(head.class_names)]
        begin += len(head.class_names)
        if len(head.class_names) <= MOST_CLASSES:
            for name in _compared_classes(head):
                label = name if is_single else f"{head.name}={name}"
                found[PROBABILITY_PREFIX + label] = _array(own[:, head.class_names.index(name)])
        if not (is_single and len(head.class_names) == 2 and head.threshold is None):
            found[ENTROPY_PREFIX + ("class" if is_single else head.name)] = _array(_entropy(own))
    return found


def _compared_classes(head: Head) -> tuple[str, ...]:
    return head.class_names if len(head.class_names) > 2 else (head.positive or head.class_names[-1],)


def _read_shares(records: pa.Table, classes: int) -> npt.NDArray[np.float64]:
    """Return the probabilities, (rows, classes); NaN where a row has none."""
    column = records.column("probabilities").cast(pa.list_(pa.float32()))
    lists = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.list_(pa.float32()))
    rows = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False) == classes
    shares = np.full((len(lists), classes), np.nan)
    flat = lists.filter(pa.array(rows)).flatten().to_numpy(zero_copy_only=False)
    shares[rows] = flat.reshape(-1, classes)
    return shares


def _entropy(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    positive = shares > 0  # the limit at 0 is 0
    logs = np.log2(shares, where=positive, out=np.zeros_like(shares))
    total: npt.NDArray[np.float64] = -np.where(np.isnan(shares), np.nan, shares * logs).sum(axis=1) + 0.0
    return total


def _array(values: npt.NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float32(), from_pandas=True)
