"""One Evidently `Report` over two tables of records, with our tests as its methods."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pyarrow as pa
from evidently import DataDefinition, Dataset, Report
from evidently.core.report import Snapshot
from evidently.metrics import DriftedColumnsCount, ValueDrift
from evidently.presets import DatasetStats, ValueStats

from visionops.monitoring.drift.detection import holm_bound
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.evidently.frames import Frames, Side, read_frames, safe_name
from visionops.monitoring.evidently.stattests import METHODS, register_tests, testing

__all__ = ["drift_scores", "quietly", "read_sides", "run_report", "summary"]


def run_report(
    reference: pa.Table,
    current: pa.Table,
    report: DriftReport,
    *,
    name: str = "",
    timestamp: datetime | None = None,
    has_summary: bool = True,
) -> Snapshot:
    """Run our tests once more inside Evidently, with its plots, summary statistics and missing values.

    Evidently judges one column at a time. Its threshold is therefore what Holm's correction over all columns leaves of
    ``alpha``, so that it calls the same columns drifted. Columns with too few images to say have no test there.

    Args:
        report: By `detect_drift`, on the same tables.
        name: Of the snapshot.
        timestamp: Of the snapshot; now when absent.
        has_summary: Describe the tables, too, beside the drift.
    """
    frames = read_frames(reference, current, report.columns)
    there = {*frames.numbers, *frames.categories}
    tested = [column for column in report.columns if column.p_value is not None and safe_name(column.name) in there]
    methods = {safe_name(column.name): METHODS[column.test] for column in tested}
    bound = holm_bound(report.columns, report.settings.alpha)
    metrics: list[Any] = []
    if methods:
        count = DriftedColumnsCount(
            columns=list(methods),
            drift_share=1 / len(methods),  # the count fails with the first column, as our verdict does
            per_column_method=methods,
            per_column_threshold=dict.fromkeys(methods, bound),
        )
        metrics = [count, *(ValueDrift(column=c, method=m, threshold=bound) for c, m in methods.items())]
    register_tests()
    with quietly(), testing(frames, report.settings, sum(column.p_value is not None for column in report.columns)):
        return Report([*metrics, *(summary(frames) if has_summary else ())], include_tests=True).run(
            *read_sides(frames), name=name, timestamp=timestamp
        )


def drift_scores(snapshot: Snapshot) -> dict[str, float]:
    """Return the score of each column with a `ValueDrift`: of our tests the p-value."""
    metrics = [metric for metric in snapshot.dict()["metrics"] if metric["config"]["type"].endswith(":ValueDrift")]
    return {metric["config"]["column"]: float(metric["value"]) for metric in metrics}


def read_sides(frames: Frames) -> tuple[Dataset, Dataset]:
    """Return the window and the reference, in the order that Evidently takes them."""

    def read(side: Side) -> Dataset:
        definition = DataDefinition(numerical_columns=list(frames.numbers), categorical_columns=list(frames.categories))
        return Dataset.from_pandas(side.frame, data_definition=definition)

    return read(frames.current), read(frames.reference)


def summary(frames: Frames) -> list[Any]:
    """Return what describes both tables: rows, missing values, and statistics of each column; none is judged.

    Nothing where a table has no rows, of which Evidently has no statistics.
    Evidently's own tests of these (a mean within a tenth of the reference's) fail in clean windows.
    """
    if not (len(frames.reference.frame) and len(frames.current.frame)):
        return []
    columns = *frames.numbers, *frames.categories
    return [DatasetStats(**_untested(DatasetStats)), *(ValueStats(name, **_untested(ValueStats)) for name in columns)]


def _untested(container: type) -> Mapping[str, Any]:
    # `include_tests=False` does the same, but then the container does not find its own metrics.
    parameters = inspect.signature(container).parameters
    return {name: {} if name.startswith("unique") else [] for name in parameters if name.endswith("_count_tests")} | {
        name: []
        for name in parameters
        if name.endswith("_tests") and not name.endswith(("_count_tests", "include_tests"))
    }


@contextmanager
def quietly() -> Iterator[None]:
    """Keep to oneself what NumPy, pandas and SciPy warn of: a constant column has no correlation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
