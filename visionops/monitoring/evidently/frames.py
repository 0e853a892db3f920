"""Records as the data frames that Evidently reads: a row an image, a column of its own for each class."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from visionops.monitoring.drift.compared_classes import Pattern, read_patterns
from visionops.monitoring.drift.compared_embeddings import Vectors, read_vectors
from visionops.monitoring.drift.compared_numbers import number_columns, read_numbers
from visionops.monitoring.drift.permutation import Numbers
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind

__all__ = ["Frames", "Side", "read_frames", "safe_name"]

_SAFE = str.maketrans(
    {"<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"}
)
_MOST_VECTORS = 500
"""Of each table, to find the first principal component by."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two tables."""

    frame: pd.DataFrame
    """Rows in the order of the records, numbered from 0; columns as `ColumnDrift.name`, made safe by `safe_name`.

    A class is ``yes`` or ``no``, ``labels`` the class of most boxes of an image, and ``embedding`` the first principal
    component. A value that is not there is NaN or None."""
    patterns: Sequence[Pattern]
    """What each image shows; empty without a column ``labels``."""
    vectors: Vectors
    vector_of: npt.NDArray[np.int64]
    """Row of ``vectors`` by the number of the record, -1 for none."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """Both tables, with the same columns."""

    reference: Side
    current: Side
    numbers: tuple[str, ...]
    """Columns of the frames that hold numbers."""
    categories: tuple[str, ...]
    """The others."""


def read_frames(reference: pa.Table, current: pa.Table, columns: Sequence[ColumnDrift]) -> Frames:
    """Read these columns, those without a value in one of the tables left out.

    Args:
        columns: Of a report on the same tables.
    """
    wanted = {column.name for column in columns}
    tables = reference, current
    data: tuple[dict[str, object], dict[str, object]] = {}, {}
    numbers: list[str] = []
    categories: list[str] = []

    def add(name: str, of: list[str], sides: Sequence[npt.NDArray[np.generic]]) -> None:
        if all(bool(pd.notna(side).any()) for side in sides):
            of.append(safe_name(name))
            for frame, side in zip(data, sides, strict=True):
                frame[safe_name(name)] = side

    for name in (name for name in number_columns(*tables) if name in wanted):
        add(name, numbers, [_finite(read_numbers(table, name)) for table in tables])
    patterns = [read_patterns(table) if "labels" in table.column_names else [] for table in tables]
    for name in (column.name for column in columns if column.kind is ColumnKind.CLASS):
        class_name = name.removeprefix("class:")
        add(name, categories, [np.array([_shows(class_name, row) for row in side], object) for side in patterns])
    if "labels" in wanted:
        add("labels", categories, [np.array([_main_class(row) for row in side], object) for side in patterns])
    vectors = _read_embeddings(*tables)
    if "embedding" in wanted and all(len(of_side) for _, of_side in vectors):
        axis, centre = _first_component([of_side for _, of_side in vectors])
        components = [_spread(of_side @ axis - centre @ axis, of_rows) for of_rows, of_side in vectors]
        add("embedding", numbers, components)
    before, after = (
        Side(pd.DataFrame(frame, index=pd.RangeIndex(len(table))), shown, of_side, of_rows)
        for frame, table, shown, (of_rows, of_side) in zip(data, tables, patterns, vectors, strict=True)
    )
    return Frames(before, after, tuple(numbers), tuple(categories))


def safe_name(name: str) -> str:
    """Return a name that Evidently can write into a page: it does not escape what stands there in a script."""
    return name.translate(_SAFE)


def _finite(values: Numbers) -> Numbers:
    return np.where(np.isfinite(values), values, np.nan)


def _shows(name: str, pattern: Pattern) -> str:
    return "yes" if name in pattern else "no"


def _main_class(pattern: Pattern) -> str | None:
    """Return the class of most boxes, of several the first by name."""
    return safe_name(Counter(pattern).most_common(1)[0][0]) if pattern else None


def _read_embeddings(reference: pa.Table, current: pa.Table) -> list[tuple[npt.NDArray[np.int64], Vectors]]:
    """Return, of both, the row of its vector by record and the vectors."""
    nothing = np.empty((0, 0), np.float32)
    if not all("embedding" in table.column_names for table in (reference, current)):
        return [(np.full(len(table), -1), nothing) for table in (reference, current)]
    rows, before = read_vectors(reference, None)
    found = [(rows, before), read_vectors(current, before.shape[1] or None)]
    vector_of = [np.full(len(table), -1) for table in (reference, current)]
    for of_rows, (rows, _) in zip(vector_of, found, strict=True):
        of_rows[rows] = np.arange(len(rows))
    return [(of_rows, vectors) for of_rows, (_, vectors) in zip(vector_of, found, strict=True)]


def _first_component(sides: Sequence[Vectors]) -> tuple[Numbers, Numbers]:
    """Return the direction in which both sides together vary most, and their centre, (components,) each."""
    few = [side[np.linspace(0, len(side) - 1, min(len(side), _MOST_VECTORS)).astype(int)] for side in sides]
    both = np.concatenate(few).astype(np.float64)
    centre = both.mean(axis=0)
    axis = np.linalg.svd(both - centre, full_matrices=False)[2][0]
    axis *= np.sign(axis[np.abs(axis).argmax()]) or 1.0  # which way it points is chance
    return axis, centre


def _spread(values: Numbers, vector_of: npt.NDArray[np.int64]) -> Numbers:
    """Return the value of each record's vector, NaN where it has none."""
    spread = np.full(len(vector_of), np.nan)
    spread[vector_of >= 0] = values[vector_of[vector_of >= 0]]
    return spread
