"""Run the drift step: the verdict, Evidently's report beside it, its snapshot and the page."""

from __future__ import annotations

import pyarrow as pa

from visionops.errors import StackError
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.validator import DriftFindings
from visionops.monitoring.evidently.page import render_both
from visionops.monitoring.evidently.preset import detect_by_preset
from visionops.monitoring.evidently.report import run_report
from visionops.monitoring.evidently.workspace import save_snapshot
from visionops.monitoring.settings import DriftMethod, DriftSettings

__all__ = ["compare_with_evidently"]


def compare_with_evidently(
    reference: pa.Table,
    current: pa.Table,
    settings: DriftSettings,
    use_case: str,
    workspace: str,
    history: pa.Table | None = None,
) -> DriftFindings:
    """Compare two tables of records by the method of ``settings``, and store Evidently's report on them.

    If the workspace cannot be written, only the snapshot is lost, not the verdict.

    Args:
        workspace: Folder or URL; see `save_snapshot`.
        history: Earlier traffic, for sources that the reference does not have.
    """
    if settings.method is DriftMethod.EVIDENTLY:
        report, snapshot = detect_by_preset(reference, current, settings, history=history, name=use_case)
    else:
        report = detect_drift(reference, current, settings, history)
        snapshot = run_report(reference, current, report, history=history, name=use_case)
    problem = ""
    try:
        report = report.model_copy(update={"snapshot": save_snapshot(snapshot, report, use_case, workspace)})
    except StackError as error:
        problem = str(error)
    return DriftFindings(report, render_both(report, snapshot), problem)
