"""Run one Evidently `Report` over two tables of records, with our tests as its methods."""

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
from visionops.monitoring.drift.strata import stratify
from visionops.monitoring.evidently.frames import Frames, Side, frame_name, read_frames
from visionops.monitoring.evidently.stattests import METHODS, OUR_TESTS, given_tests, register_tests

__all__ = ["drift_scores", "quietly", "read_sides", "run_report", "summary"]

_ANY_COLUMN = 1e-6
"""Share of drifted columns at which the count fails: already with one, as in our verdict."""


def run_report(
    reference: pa.Table,
    current: pa.Table,
    report: DriftReport,
    *,
    history: pa.Table | None = None,
    name: str = "",
    timestamp: datetime | None = None,
    has_summary: bool = True,
) -> Snapshot:
    """Run our tests again inside Evidently, with its plots, summary statistics and missing values.

    Evidently judges one column at a time. Its verdicts equal ours, because its tests use the part of ``alpha`` that
    Holm's correction over all columns leaves. Its report has only tested columns: none with too few images, and only
    the first of equal ones. The method of its count is the same for all windows, so that its dashboard draws one line.

    Args:
        report: Report from `detect_drift` on the same tables.
        history: See `detect_drift`.
        name: Name of the snapshot.
        timestamp: Time of the snapshot; now when None.
        has_summary: Whether to describe the tables, too.
    """
    tested = [column for column in report.columns if column.p_value is not None]
    tests = {frame_name(column): column.test for column in tested}
    names = {frame_name(column): column.name for column in tested}
    frames = read_frames(stratify(reference, current, report.settings, history), tested)
    alpha = report.settings.alpha
    metrics: list[Any] = []
    if tests:
        count = DriftedColumnsCount(
            drift_share=_ANY_COLUMN, num_method=OUR_TESTS, cat_method=OUR_TESTS, threshold=alpha
        )
        metrics = [count, *(ValueDrift(column=c, method=METHODS[t], threshold=alpha) for c, t in tests.items())]
    register_tests()
    with quietly(), given_tests(frames, report.settings, tests, names, holm_bound(report.columns, alpha)):
        return Report([*metrics, *(summary(frames) if has_summary else ())], include_tests=True).run(
            *read_sides(frames), name=name, timestamp=timestamp
        )


def drift_scores(snapshot: Snapshot) -> dict[str, float]:
    """Return the score of each column with a `ValueDrift`; for our tests this is the p-value."""
    metrics = [metric for metric in snapshot.dict()["metrics"] if metric["config"]["type"].endswith(":ValueDrift")]
    return {metric["config"]["column"]: float(metric["value"]) for metric in metrics}


def read_sides(frames: Frames) -> tuple[Dataset, Dataset]:
    """Return the window and the reference, in Evidently's order."""

    def read(side: Side) -> Dataset:
        definition = DataDefinition(numerical_columns=list(frames.numbers), categorical_columns=list(frames.categories))
        return Dataset.from_pandas(side.frame, data_definition=definition)

    return read(frames.current), read(frames.reference)


def summary(frames: Frames) -> list[Any]:
    """Return metrics that describe both tables: rows, missing values, and statistics of each column; without tests.

    Empty where a table has no rows, because Evidently then fails. Evidently's own tests of these values (a mean within
    a tenth of the reference's) fail in windows without drift.
    """
    if not (len(frames.reference.frame) and len(frames.current.frame)):
        return []
    columns = *frames.numbers, *frames.categories
    return [DatasetStats(**_untested(DatasetStats)), *(ValueStats(name, **_untested(ValueStats)) for name in columns)]


def _untested(container: type) -> Mapping[str, Any]:
    # `include_tests=False` has the same effect, but then the container does not find its own metrics.
    parameters = inspect.signature(container).parameters
    return {name: {} if name.startswith("unique") else [] for name in parameters if name.endswith("_count_tests")} | {
        name: []
        for name in parameters
        if name.endswith("_tests") and not name.endswith(("_count_tests", "include_tests"))
    }


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress warnings of NumPy, pandas and SciPy, such as that a constant column has no correlation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
