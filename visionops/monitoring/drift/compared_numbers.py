"""Compare numbers of images: Cramér-von Mises, or for many ties Kolmogorov-Smirnov's D with a permutation test."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionops.inference.task import ENTROPY_PREFIX, PROBABILITY_PREFIX
from visionops.monitoring.drift.comparison import Compared, read_column
from visionops.monitoring.drift.permutation import Draw, Numbers, deal, generator_of
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, Verdict
from visionops.monitoring.record import COLUMN_PREFIX, FEATURE_PREFIX, task_columns
from visionops.monitoring.settings import DriftSettings

__all__ = ["compare_number", "compare_numbers", "number_columns", "read_numbers", "sorted_numbers"]

_FEW_VALUES = 500
"""Number of distinct values up to which a column is tested as one with ties."""
_BINS = 24
_PREFIXES = (FEATURE_PREFIX, PROBABILITY_PREFIX, ENTROPY_PREFIX, COLUMN_PREFIX)


def compare_numbers(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> list[Compared]:
    """Compare each column of numbers that has a value in either table; identical columns once."""
    same: dict[tuple[bytes, bytes], list[str]] = {}
    values: dict[str, tuple[Numbers, Numbers]] = {}
    for name in number_columns(reference, current):
        before, after = (sorted_numbers(read_numbers(table, name)) for table in (reference, current))
        if len(before) or len(after):
            values[name] = before, after
            same.setdefault((_digest(before), _digest(after)), []).append(name)
    # Identical columns would make the correction stricter, and count one change several times in the share.
    return [compare_number(first, tuple(others), *values[first], settings) for first, *others in same.values()]


def _digest(values: Numbers) -> bytes:
    return hashlib.sha256(values.tobytes()).digest()


def number_columns(reference: pa.Table, current: pa.Table) -> list[str]:
    """Return the number columns that both tables have, in the order of the reference."""
    shared = [name for name in reference.column_names if name in current.column_names]
    own = {column.name for column in task_columns() if column.title}
    numbers = [name for name in shared if name.startswith(_PREFIXES) or name in {"count", "confidences", *own}]
    return [name for name in numbers if not _is_text(reference, name)]


def _is_text(table: pa.Table, name: str) -> bool:
    return bool(pa.types.is_string(table.schema.field(name).type))


def read_numbers(table: pa.Table, name: str) -> Numbers:
    """Return one value for each image, float64 (rows,): a list as its mean; NaN where it is missing."""
    if pa.types.is_nested(table.schema.field(name).type):
        return _means(read_column(table, name, pa.list_(pa.float32())))
    # Convert to float32 first: a constant stored as float64 in one table would differ in its last digits for every
    # image.
    column = read_column(table, name, pa.float32())
    column = column.fill_null(0.0) if name == "count" else column
    values: Numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def sorted_numbers(values: Numbers) -> Numbers:
    """Return the finite values in sorted order, because sums depend on the order."""
    return np.sort(values[np.isfinite(values)])


def _means(lists: pa.Array) -> Numbers:
    """Return the mean of each list, float64 (rows,); NaN for one without a finite value."""
    image = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    value = pc.list_flatten(lists).to_numpy(zero_copy_only=False).astype(np.float64)
    there = np.isfinite(value)
    count = np.bincount(image[there], minlength=len(lists))
    total = np.bincount(image[there], value[there], minlength=len(lists))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def compare_number(
    name: str, same_as: tuple[str, ...], before: Numbers, after: Numbers, settings: DriftSettings
) -> Compared:
    """Compare two sets of numbers, each finite and sorted."""
    from scipy.stats import cramervonmises_2samp

    rng = generator_of(name, settings.seed)
    values = np.unique(np.concatenate([before, after]))
    tied = len(values) <= min(_FEW_VALUES, (len(before) + len(after)) / 2)
    column = ColumnDrift(
        name=name,
        kind=ColumnKind.NUMBER,
        verdict=Verdict.TOO_FEW,
        reference_images=len(before),
        current_images=len(after),
        test="D, permutation" if tied else "Cramér-von Mises",
        same_as=same_as,
        min_effect=settings.min_gap,
    )
    if min(len(before), len(after)) < settings.min_images:
        return Compared(column)
    ours, theirs = (np.searchsorted(side, values, side="right") for side in (before, after))
    gap = statistic = float(_gap(ours, theirs).max())
    p: float | None = None
    draw: Draw | None = None
    if tied:
        draw = _draw_gaps(np.diff(ours + theirs, prepend=0), len(before), rng)
    else:
        # With ties the formula would report drift everywhere, because their order is random.
        order = np.lexsort((rng.random(len(before) + len(after)), np.concatenate([before, after])))
        ranks = np.empty(len(order))
        ranks[order] = np.arange(len(order))
        result = cramervonmises_2samp(ranks[: len(before)], ranks[len(before) :], method="asymptotic")
        statistic, p = float(result.statistic), float(np.clip(result.pvalue, 0.0, 1.0))
    edges = np.linspace(values[0], values[-1] if len(values) > 1 else values[0] + 1, _BINS + 1)
    shares = [np.histogram(side, edges)[0] / len(side) for side in (before, after)]
    spread = float(np.sqrt((before.var() * len(before) + after.var() * len(after)) / (len(before) + len(after))))
    shift = float(after.mean() - before.mean())
    return Compared(
        column.model_copy(
            update={
                "statistic": statistic,
                "p_value": p,
                "effect": gap,
                "before": float(before.mean()),
                "after": float(after.mean()),
                "spread_before": float(before.std()),
                "spread_after": float(after.std()),
                "shift": shift / spread if spread > 0 else None,
                "bins": tuple(zip(shares[0].tolist(), shares[1].tolist(), strict=True)),
            }
        ),
        draw,
    )


def _gap(ours: npt.NDArray[np.int64], theirs: npt.NDArray[np.int64]) -> Numbers:
    """Return Kolmogorov-Smirnov's D from cumulative counts, (..., values) each."""
    return np.asarray(np.abs(ours / ours[..., -1:] - theirs / theirs[..., -1:]).max(axis=-1))


def _draw_gaps(both: npt.NDArray[np.int64], number: int, rng: np.random.Generator) -> Draw:
    """Return D for random draws of ``number`` images; ``both`` has the number of images with each value, (values,)."""

    def draw(size: int) -> Numbers:
        ours = deal(both, number, size, rng)
        return _gap(ours.cumsum(axis=1, dtype=np.int64), (both - ours).cumsum(axis=1))

    return draw
