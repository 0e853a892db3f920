"""Convert records to Evidently's data frames: one row for each image, one column for each class."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from visionops.monitoring.drift.compared_classes import Pattern, read_patterns, read_texts
from visionops.monitoring.drift.compared_embeddings import Vectors, read_vectors
from visionops.monitoring.drift.compared_numbers import number_columns, read_numbers
from visionops.monitoring.drift.permutation import Numbers
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind
from visionops.monitoring.drift.strata import Strata

__all__ = ["Frames", "Side", "frame_name", "read_frames", "safe_name"]

_SAFE = str.maketrans(
    {"<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"}
)
_MOST_VECTORS = 500
"""Number of embeddings of each table from which the first principal component is computed."""


@dataclasses.dataclass(frozen=True)
class Side:
    """Data frame of one of the two tables."""

    frame: pd.DataFrame
    """Rows in the order of the records, numbered from 0; columns by `frame_name`. A column of one source has values
    only in its rows.

    A class is ``yes`` or ``no``, ``labels`` the class of most boxes of an image, and ``embedding`` the first principal
    component. A value that is not there is NaN or None."""
    patterns: Mapping[str, Sequence[Pattern]]
    """Patterns of each mix, by `ColumnDrift.name`: the classes, text or source of each image."""
    vectors: Vectors
    vector_of: npt.NDArray[np.int64]
    """Row of ``vectors`` by the number of the record, -1 for none."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """Both tables, with the same columns."""

    reference: Side
    current: Side
    numbers: tuple[str, ...]
    """Number columns of the frames."""
    categories: tuple[str, ...]
    """All other columns."""


def read_frames(strata: Strata, columns: Sequence[ColumnDrift]) -> Frames:
    """Read these columns, except those without a value in one of the tables.

    Args:
        columns: Columns of a report on the same tables.
    """
    tables = strata.reference, strata.current
    patterns = _read_patterns(strata, {column.name for column in columns if column.kind is ColumnKind.MIX})
    vectors = _read_embeddings(*tables)
    numeric = {*number_columns(*tables), "embedding"}
    rows_of = {part.source: (part.before, part.after) for part in strata.parts}
    data: tuple[dict[str, object], dict[str, object]] = {}, {}
    numbers: list[str] = []
    categories: list[str] = []
    read = _Reader(tables, patterns, vectors)
    for column in columns:
        sides = read.values(column)
        if column.source:
            sides = [_only(rows, side) for rows, side in zip(rows_of[column.source], sides, strict=True)]
        if all(bool(pd.notna(side).any()) for side in sides):
            name = frame_name(column)
            (numbers if column.name in numeric else categories).append(name)
            for frame, side in zip(data, sides, strict=True):
                frame[name] = side
    before, after = (
        Side(pd.DataFrame(frame, index=pd.RangeIndex(len(table))), shown, of_side, of_rows)
        for frame, table, shown, (of_rows, of_side) in zip(data, tables, patterns, vectors, strict=True)
    )
    return Frames(before, after, tuple(numbers), tuple(categories))


def frame_name(column: ColumnDrift) -> str:
    """Return the frame's name of a report column: its own name, made safe, and its source."""
    name = safe_name(column.name)
    return f"{name} [{column.source}]" if column.source else name


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reader of column values in both tables."""

    tables: tuple[pa.Table, pa.Table]
    patterns: Sequence[Mapping[str, Sequence[Pattern]]]
    vectors: Sequence[tuple[npt.NDArray[np.int64], Vectors]]

    def values(self, column: ColumnDrift) -> list[npt.NDArray[Any]]:
        """Return the value of each image, (rows,) for reference and current."""
        if column.kind is ColumnKind.EMBEDDING:
            return list(self._components)
        if column.kind is ColumnKind.CLASS:
            name = column.name.removeprefix("class:")
            return [np.array([_shows(name, row) for row in side["labels"]], object) for side in self.patterns]
        if column.kind is ColumnKind.MIX:
            return [np.array([_main_class(row) for row in side[column.name]], object) for side in self.patterns]
        return [_finite(read_numbers(table, column.name)) for table in self.tables]

    @functools.cached_property
    def _components(self) -> tuple[Numbers, ...]:
        """Return the first principal component of the embeddings; NaN where a table has none."""
        if not all(len(of_side) for _, of_side in self.vectors):
            return tuple(np.full(len(of_rows), np.nan) for of_rows, _ in self.vectors)
        axis, centre = _first_component([of_side for _, of_side in self.vectors])
        return tuple(_spread(of_side @ axis - centre @ axis, of_rows) for of_rows, of_side in self.vectors)


def _read_patterns(strata: Strata, mixes: Collection[str]) -> list[dict[str, Sequence[Pattern]]]:
    """Return the patterns of reference and current by the name of the mix, always with ``labels`` for the classes."""
    found = []
    for table, sources in zip((strata.reference, strata.current), strata.mix, strict=True):
        patterns: dict[str, Sequence[Pattern]] = {
            "labels": read_patterns(table) if "labels" in table.column_names else []
        }
        for name in mixes:
            if name != "labels":
                patterns[name] = sources if name == "source" else read_texts(table, name)
        found.append(patterns)
    return found


def _only(rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values of these rows, and a missing value for all others."""
    kept: npt.NDArray[Any] = np.full_like(values, np.nan if values.dtype != object else None)
    kept[rows] = values[rows]
    return kept


def safe_name(name: str) -> str:
    """Return a name that Evidently can write into a page, because it does not escape text in scripts."""
    return name.translate(_SAFE)


def _finite(values: Numbers) -> Numbers:
    return np.where(np.isfinite(values), values, np.nan)


def _shows(name: str, pattern: Pattern) -> str:
    return "yes" if name in pattern else "no"


def _main_class(pattern: Pattern) -> str | None:
    """Return the class with the most boxes; ties go to the first by name."""
    return safe_name(Counter(pattern).most_common(1)[0][0]) if pattern else None


def _read_embeddings(reference: pa.Table, current: pa.Table) -> list[tuple[npt.NDArray[np.int64], Vectors]]:
    """Return for both tables the vector row of each record, and the vectors."""
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
    """Return the direction of the largest variance of both sides together, and their centre, (components,) each."""
    few = [side[np.linspace(0, len(side) - 1, min(len(side), _MOST_VECTORS)).astype(int)] for side in sides]
    both = np.concatenate(few).astype(np.float64)
    centre = both.mean(axis=0)
    axis = np.linalg.svd(both - centre, full_matrices=False)[2][0]
    axis *= np.sign(axis[np.abs(axis).argmax()]) or 1.0  # its sign is arbitrary
    return axis, centre


def _spread(values: Numbers, vector_of: npt.NDArray[np.int64]) -> Numbers:
    """Return the value of each record's vector, NaN where it has none."""
    spread = np.full(len(vector_of), np.nan)
    spread[vector_of >= 0] = values[vector_of[vector_of >= 0]]
    return spread
