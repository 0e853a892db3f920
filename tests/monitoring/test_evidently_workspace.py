"""Snapshots in an Evidently workspace, and the step's result where it cannot save one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.monitoring.test_drift import records
from visionops.monitoring.evidently.comparison import compare_with_evidently
from visionops.monitoring.settings import DriftMethod, DriftSettings

QUICK = DriftSettings(permutations=199)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    folder = tmp_path_factory.mktemp("workspace") / "evidently"
    found = [
        compare_with_evidently(records(100), records(60, seed, brightness=0.7), QUICK, use_case, str(folder))
        for seed, use_case in ((1, "steel"), (2, "steel"), (3, "plants"))
    ]
    return folder, found


def test_a_use_case_is_a_project_and_a_run_a_snapshot_of_it(workspace):
    from evidently.ui.workspace import Workspace

    folder, found = workspace
    kept = Workspace(str(folder))
    assert sorted(project.name for project in kept.list_projects()) == ["plants", "steel"]
    snapshots = [findings.report.snapshot for findings in found]
    assert all(snapshot.workspace == str(folder) for snapshot in snapshots)
    assert snapshots[0].project == snapshots[1].project != snapshots[2].project
    assert {str(one) for one in kept.list_runs(snapshots[0].project)} == {snapshots[0].id, snapshots[1].id}
    assert not any(findings.problem for findings in found)


def test_a_snapshot_has_our_p_values_and_needs_nothing_of_ours_to_be_read(workspace):
    from evidently.ui.workspace import Workspace

    folder, found = workspace
    report = found[0].report
    kept = Workspace(str(folder)).get_run(report.snapshot.project, report.snapshot.id)
    scores = {
        result.metric_value_location.metric.params["column"]: result.value
        for result in kept.metric_results.values()
        if result.metric_value_location.metric.params["type"].endswith(":ValueDrift")
    }
    assert scores == {c.name: pytest.approx(c.p_value, abs=1e-12) for c in report.columns if c.p_value is not None}
    file = folder / report.snapshot.project / "snapshots" / f"{report.snapshot.id}.json"
    types = set()

    def collect(node):
        if isinstance(node, dict):
            types.update(v for k, v in node.items() if k == "type" and isinstance(v, str) and ":" in v)
            [collect(value) for value in node.values()]
        elif isinstance(node, list):
            [collect(value) for value in node]

    collect(json.loads(file.read_text()))
    assert types
    assert all(kind.startswith("evidently:") for kind in types)


def test_two_windows_are_points_of_the_same_lines(workspace):
    """Evidently draws a line for each configuration of a metric, so values of a window must not be in it."""
    from evidently.ui.workspace import Workspace

    folder, found = workspace
    kept = Workspace(str(folder))
    lines = [
        {
            json.dumps(result.metric_value_location.metric.params, sort_keys=True)
            for result in run.metric_results.values()
        }
        for run in (kept.get_run(one.report.snapshot.project, one.report.snapshot.id) for one in found[:2])
    ]
    assert lines[0] == lines[1]


def test_the_dashboard_of_a_project_shows_the_share_and_each_column(workspace):
    from evidently.ui.workspace import Workspace

    folder, found = workspace
    report = found[0].report
    panels = Workspace(str(folder)).get_dashboard(report.snapshot.project).panels
    assert [panel.title for panel in panels] == ["Drifted columns", "Images", "Each column"]
    columns = {value.metric_labels["column"] for value in panels[2].values}
    assert columns == {c.name for c in report.columns if c.p_value is not None}


@pytest.mark.parametrize("method", DriftMethod)
def test_a_workspace_that_takes_nothing_costs_the_snapshot_only(method, tmp_path):
    (tmp_path / "file").write_text("")
    settings = QUICK.model_copy(update={"method": method})
    findings = compare_with_evidently(
        records(100), records(60, 1, brightness=0.7), settings, "steel", str(tmp_path / "file")
    )
    assert findings.report.drifted
    assert findings.report.snapshot is None
    assert findings.problem.startswith(f"Evidently workspace {tmp_path / 'file'}: cannot save the snapshot (")
    assert findings.problem.endswith("set the data validator's workspace (VISIONOPS_EVIDENTLY)")
    assert '<main class="drift">' in findings.page


def test_a_server_that_does_not_answer_is_named():
    findings = compare_with_evidently(records(60), records(40, 1), QUICK, "steel", "http://127.0.0.1:9")
    assert findings.problem.startswith(
        "Evidently workspace http://127.0.0.1:9: cannot save the snapshot (ConnectionError"
    )
