"""The verdict by Evidently's own choice of tests and thresholds: its `DataDriftPreset`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
from evidently import Report
from evidently.core.report import Snapshot
from evidently.metrics import ValueDrift
from evidently.presets import DataDriftPreset

from visionops.monitoring.drift.detection import compare_columns
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, DriftReport, Verdict
from visionops.monitoring.evidently.frames import read_frames, safe_name
from visionops.monitoring.evidently.report import drift_scores, quietly, read_sides, summary
from visionops.monitoring.evidently.stattests import CLASSIFIER, SMALL_REFERENCE, given_tests, register_tests
from visionops.monitoring.settings import DriftSettings

__all__ = ["detect_by_preset"]


def detect_by_preset(
    reference: pa.Table,
    current: pa.Table,
    settings: DriftSettings,
    *,
    name: str = "",
    timestamp: datetime | None = None,
    has_summary: bool = True,
) -> tuple[DriftReport, Snapshot]:
    """Compare two tables as `detect_drift` does, and leave the verdict on each column to Evidently.

    `DataDriftPreset` without settings judges the numbers and classes, and Evidently's default for embeddings, a domain
    classifier, the embedding. Nothing is corrected for the number of columns, no change is too small to matter, and no
    image too few: only a column without any value in one of the tables is "too few to say".

    Args:
        name: Of the snapshot.
        timestamp: Of the snapshot; now when absent.
        has_summary: Describe the tables, too, beside the drift.
    """
    compared = [one.column for one in compare_columns(reference, current, settings)]
    frames = read_frames(reference, current, compared)
    there = {*frames.numbers, *frames.categories}
    preset = [
        safe_name(column.name)
        for column in compared
        if column.kind is not ColumnKind.EMBEDDING and safe_name(column.name) in there
    ]
    metrics: list[Any] = [DataDriftPreset(columns=preset)] if preset else []
    if "embedding" in frames.numbers:
        metrics.append(ValueDrift(column="embedding", method=CLASSIFIER))
    register_tests()
    with quietly(), given_tests(frames, settings, {}):
        snapshot = Report([*metrics, *(summary(frames) if has_summary else ())], include_tests=True).run(
            *read_sides(frames), name=name, timestamp=timestamp
        )
    verdicts, scores = _read_verdicts(snapshot), drift_scores(snapshot)
    report = DriftReport(
        reference_images=reference.num_rows,
        current_images=current.num_rows,
        columns=tuple(
            _judge(column, verdicts[safe_name(column.name)], scores[safe_name(column.name)])
            if safe_name(column.name) in verdicts
            else column
            for column in compared
        ),
        settings=settings,
    )
    return report, snapshot


def _read_verdicts(snapshot: Snapshot) -> Mapping[str, Mapping[str, Any]]:
    """Return ``method``, ``threshold`` and ``drifted`` of each column: by the test, not by the score.

    Which way a score points depends on the method that was chosen.
    """
    verdicts = {}
    for test in snapshot.dict()["tests"]:
        chosen = test["metric_config"]["params"]
        if chosen["type"].endswith(":ValueDrift"):
            verdicts[chosen["column"]] = chosen | {"drifted": test["status"].value == "FAIL"}
    return verdicts


def _judge(column: ColumnDrift, verdict: Mapping[str, Any], score: float) -> ColumnDrift:
    is_classifier = verdict["method"] == CLASSIFIER
    has_threshold = not (is_classifier and column.reference_images < SMALL_REFERENCE)
    return column.model_copy(
        update={
            "test": "domain classifier" if is_classifier else verdict["method"],
            "statistic": score,
            "p_value": score if verdict["method"].endswith("p_value") else None,
            "threshold": verdict["threshold"] if has_threshold else None,
            "verdict": Verdict.DRIFTED if verdict["drifted"] else Verdict.STABLE,
        }
    )
