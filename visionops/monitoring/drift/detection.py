"""Compare two tables of records, test each column and judge which drifted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from visionops.monitoring.drift.compared_classes import compare_classes
from visionops.monitoring.drift.compared_embeddings import compare_embeddings
from visionops.monitoring.drift.compared_numbers import compare_numbers
from visionops.monitoring.drift.comparison import Compared
from visionops.monitoring.drift.permutation import permutation_p
from visionops.monitoring.drift.report import ColumnDrift, DriftReport, Verdict
from visionops.monitoring.settings import DriftSettings

__all__ = ["detect_drift"]


def detect_drift(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> DriftReport:
    """Compare a window of records with the reference, column by column.

    Neither the order of rows nor how values are encoded matters: what is missing is not there (a class that no image
    shows has a share of 0), and float64 is read as the float32 of the record. The same tables and settings give the
    same report.

    Args:
        reference: Columns of `visionops.monitoring.record`; those that are missing in either table are not compared.
        current: As ``reference``.
    """
    rng = np.random.default_rng(settings.seed)
    columns = [
        *compare_numbers(reference, current, settings, rng),
        *compare_classes(reference, current, settings, rng),
        *compare_embeddings(reference, current, settings, rng),
    ]
    return DriftReport(
        reference_images=reference.num_rows,
        current_images=current.num_rows,
        columns=tuple(_judge(_test(columns, settings), settings.alpha)),
        settings=settings,
    )


def _test(compared: Sequence[Compared], settings: DriftSettings) -> list[ColumnDrift]:
    """Give each column its p-value: only here is it known how many are tested, and so how small one must be."""
    tested = sum(one.is_tested for one in compared)
    # The least p-value is then below half of what Holm asks of the clearest column.
    limit = max(settings.permutations, math.ceil(2 * tested / settings.alpha))
    return [
        column if draw is None else column.model_copy(update={"p_value": permutation_p(column.statistic, draw, limit)})
        for column, draw in compared
    ]


def _judge(columns: Sequence[ColumnDrift], alpha: float) -> list[ColumnDrift]:
    """Holm's correction, and the verdicts."""
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
