"""Compare two tables of records, test each column and judge which drifted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from visionops.monitoring.drift.compared_classes import compare_classes, compare_mix, compare_texts
from visionops.monitoring.drift.compared_embeddings import compare_embeddings
from visionops.monitoring.drift.compared_numbers import compare_numbers
from visionops.monitoring.drift.comparison import Compared
from visionops.monitoring.drift.permutation import permutation_p
from visionops.monitoring.drift.report import ColumnDrift, DriftReport, Verdict
from visionops.monitoring.drift.strata import Strata, stratify
from visionops.monitoring.settings import DriftSettings

__all__ = ["compare_columns", "compare_strata", "count_exchanges", "detect_drift", "give_p", "holm_bound"]


def detect_drift(
    reference: pa.Table, current: pa.Table, settings: DriftSettings, history: pa.Table | None = None
) -> DriftReport:
    """Compare a window of records with the reference, column by column.

    The order of rows and the encoding of values do not matter: a class without images has a share of 0, and float64 is
    read as the float32 of the record. The same tables and settings give the same report.

    Where the window has sources, each is compared separately, and their mix is one more column, ``source``. Holm's
    correction is over all columns of all sources.

    Args:
        reference: Columns of `visionops.monitoring.record`; those that are missing in either table are not compared.
        current: Same columns as ``reference``.
        history: Earlier traffic, for sources that the reference does not have.
    """
    strata = stratify(reference, current, settings, history)
    compared = compare_strata(strata, settings)
    limit = count_exchanges(sum(one.is_tested for one in compared), settings)
    return DriftReport(
        reference_images=reference.num_rows,
        current_images=current.num_rows,
        columns=tuple(_judge([give_p(one, limit) for one in compared], settings.alpha)),
        settings=settings,
        sources=tuple(part.describe() for part in strata.parts) if strata.has_sources else (),
        left_out=strata.left_out,
    )


def compare_strata(strata: Strata, settings: DriftSettings) -> list[Compared]:
    """Compare all columns of each part, and the mix of sources."""
    if not strata.has_sources:
        compared = compare_columns(strata.reference, strata.current, settings)
    else:
        compared = [
            one._replace(column=one.column.model_copy(update={"source": part.source}))
            for part in strata.parts
            for one in compare_columns(strata.reference.take(part.before), strata.current.take(part.after), settings)
        ]
    if any(strata.mix[0]):
        compared.append(compare_mix(Counter(strata.mix[0]), Counter(strata.mix[1]), settings, "source"))
    return compared


def compare_columns(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> list[Compared]:
    """Compare all columns; some still have no p-value, and none is judged."""
    return [
        *compare_numbers(reference, current, settings),
        *compare_classes(reference, current, settings),
        *compare_texts(reference, current, settings),
        *compare_embeddings(reference, current, settings),
    ]


def count_exchanges(tested: int, settings: DriftSettings) -> int:
    """Return the maximum number of random exchanges for a p-value, given the number of tested columns."""
    # The least p-value is then below half of what Holm requires of the most significant column.
    return max(settings.permutations, math.ceil(2 * tested / settings.alpha))


def give_p(compared: Compared, limit: int) -> ColumnDrift:
    """Return the column with its p-value, where there are enough images; ``limit`` is from `count_exchanges`."""
    column, draw = compared
    if draw is None:
        return column
    return column.model_copy(update={"p_value": permutation_p(column.statistic, draw, limit)})


def holm_bound(columns: Sequence[ColumnDrift], alpha: float) -> float:
    """Return the uncorrected p-value up to which Holm's correction calls a column drifted, if its effect matters.

    The correction goes through the columns by rising p-value until one fails. All columns before it have a p-value
    below its bound, and all after it above.
    """
    ordered = sorted(column.p_value for column in columns if column.p_value is not None)
    bounds = [alpha / (len(ordered) - rank) for rank in range(len(ordered))]
    failed = (bound for p, bound in zip(ordered, bounds, strict=True) if p > bound)
    return next(failed, alpha)


def _judge(columns: Sequence[ColumnDrift], alpha: float) -> list[ColumnDrift]:
    """Apply Holm's correction, and set the verdicts."""
    judged = list(columns)
    tested = sorted((c.p_value, row) for row, c in enumerate(columns) if c.p_value is not None)
    adjusted = 0.0
    for rank, (p, row) in enumerate(tested):
        adjusted = max(adjusted, min(1.0, p * (len(tested) - rank)))
        column = columns[row]
        matters = abs(column.effect or 0.0) >= column.min_effect
        verdict = Verdict.DRIFTED if adjusted <= alpha and matters else Verdict.STABLE
        judged[row] = column.model_copy(update={"p_adjusted": adjusted, "verdict": verdict})
    return judged
