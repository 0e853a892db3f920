"""Detect drift with Evidently's own choice of tests and thresholds, its `DataDriftPreset`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
from evidently import Report
from evidently.core.report import Snapshot
from evidently.metrics import ValueDrift
from evidently.presets import DataDriftPreset

from visionops.monitoring.drift.detection import compare_strata
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, DriftReport, Verdict
from visionops.monitoring.drift.strata import stratify
from visionops.monitoring.evidently.frames import frame_name, read_frames
from visionops.monitoring.evidently.report import drift_scores, quietly, read_sides, summary
from visionops.monitoring.evidently.stattests import CLASSIFIER, SMALL_REFERENCE, given_tests, register_tests
from visionops.monitoring.settings import DriftSettings

__all__ = ["detect_by_preset"]


def detect_by_preset(
    reference: pa.Table,
    current: pa.Table,
    settings: DriftSettings,
    *,
    history: pa.Table | None = None,
    name: str = "",
    timestamp: datetime | None = None,
    has_summary: bool = True,
) -> tuple[DriftReport, Snapshot]:
    """Compare two tables like `detect_drift`, but with Evidently's verdict on each column.

    `DataDriftPreset` without settings judges numbers and classes. Evidently's default for embeddings, a domain
    classifier, judges the embedding. There is no correction for the number of columns, no least effect, and no least
    number of
    images: only a column without any value in one of the tables is "too few to say".

    Args:
        history: See `detect_drift`.
        name: Name of the snapshot.
        timestamp: Time of the snapshot; now when None.
        has_summary: Whether to describe the tables, too.
    """
    strata = stratify(reference, current, settings, history)
    compared = [one.column for one in compare_strata(strata, settings)]
    frames = read_frames(strata, compared)
    there = {*frames.numbers, *frames.categories}
    preset = [
        frame_name(column)
        for column in compared
        if column.kind is not ColumnKind.EMBEDDING and frame_name(column) in there
    ]
    metrics: list[Any] = [DataDriftPreset(columns=preset)] if preset else []
    embeddings = [frame_name(column) for column in compared if column.kind is ColumnKind.EMBEDDING]
    metrics += [ValueDrift(column=name, method=CLASSIFIER) for name in embeddings if name in there]
    register_tests()
    with quietly(), given_tests(frames, settings, {}, {}):
        snapshot = Report([*metrics, *(summary(frames) if has_summary else ())], include_tests=True).run(
            *read_sides(frames), name=name, timestamp=timestamp
        )
    verdicts, scores = _read_verdicts(snapshot), drift_scores(snapshot)
    report = DriftReport(
        reference_images=reference.num_rows,
        current_images=current.num_rows,
        columns=tuple(
            _judge(column, verdicts[frame_name(column)], scores[frame_name(column)])
            if frame_name(column) in verdicts
            else column
            for column in compared
        ),
        settings=settings,
        sources=tuple(part.describe() for part in strata.parts) if strata.has_sources else (),
        left_out=strata.left_out,
    )
    return report, snapshot


def _read_verdicts(snapshot: Snapshot) -> Mapping[str, Mapping[str, Any]]:
    """Return ``method``, ``threshold`` and ``drifted`` of each column, from the test and not from the score.

    The meaning of a high score depends on the method.
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
