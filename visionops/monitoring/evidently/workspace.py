"""Save snapshots in an Evidently workspace: a project for each use case, whose dashboard shows drift over time."""

from __future__ import annotations

import os
from pathlib import Path

import requests
from evidently.core.report import Snapshot
from evidently.errors import EvidentlyError
from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import line_plot_panel
from evidently.ui.workspace import Project, RemoteWorkspace, Workspace, WorkspaceBase

from visionops.errors import StackError
from visionops.monitoring.drift.report import DriftReport, EvidentlySnapshot, Verdict
from visionops.monitoring.evidently.frames import frame_name

__all__ = ["save_snapshot"]

_SECRET = "EVIDENTLY_SECRET"  # noqa: S105 (the name of a variable)
"""Evidently's own variable name for the key of its server."""


def save_snapshot(snapshot: Snapshot, report: DriftReport, use_case: str, address: str) -> EvidentlySnapshot:
    """Add a snapshot to the project of its use case, which is created where it is missing.

    Args:
        report: Report on the same tables; its columns are the lines of the project's dashboard.
        address: A folder, created if missing, or the URL of Evidently's server, whose key is in ``EVIDENTLY_SECRET``.

    Raises:
        StackError: The folder cannot be written, or the server does not answer or refuses the snapshot.
    """
    try:
        workspace = _open(address)
        found = [project for project in workspace.search_project(use_case) if project.name == use_case]
        project = found[0] if found else _make_project(workspace, use_case, report)
        added = workspace.add_run(project.id, snapshot)
    except (OSError, ValueError, EvidentlyError, requests.RequestException) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise StackError(
            f"Evidently workspace {address}: cannot save the snapshot ({why}); set the data validator's workspace "
            "(VISIONOPS_EVIDENTLY)"
        ) from error
    where = address if _is_server(address) else str(Path(address).absolute())
    return EvidentlySnapshot(workspace=where, project=str(project.id), id=str(added.id))


def _is_server(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _open(address: str) -> WorkspaceBase:
    if _is_server(address):
        return RemoteWorkspace(address, secret=os.environ.get(_SECRET))
    Path(address).mkdir(parents=True, exist_ok=True)
    return Workspace.create(address)


def _make_project(workspace: WorkspaceBase, use_case: str, report: DriftReport) -> Project:
    project = workspace.create_project(use_case, description="Changes in the traffic, run by run.")
    for panel in _panels(report):
        project.dashboard.add_panel(panel)
    return project


def _panels(report: DriftReport) -> list[DashboardPanelPlot]:
    columns = [frame_name(column) for column in report.columns if column.verdict is not Verdict.TOO_FEW]
    scores = [PanelMetric(metric="ValueDrift", legend=name, metric_labels={"column": name}) for name in columns]
    return [
        line_plot_panel(
            "Drifted columns",
            [PanelMetric(metric="DriftedColumnsCount", legend="share", metric_labels={"value_type": "share"})],
            "Share of the compared columns",
            size="half",
        ),
        line_plot_panel("Images", [PanelMetric(metric="RowCount", legend="in the window")], size="half"),
        line_plot_panel("Each column", scores, "p-value before any correction, or the score of Evidently's own test"),
    ]
