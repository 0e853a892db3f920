"""A search in MLflow, in the layout that it has had from the beginning."""

from __future__ import annotations

import json

import mlflow
import pytest

from stacks.trackers.mlflow import MlflowAdapter
from steps.tuning_log import RunTuningLog
from tests.helpers.tracking import make_tracking
from tests.tuning.quadratic import Quadratic, search_data, search_plan
from visionops.tuning.search import tune

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    uri = make_tracking(tmp_path, "toy")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("toy")
    return uri


def search(task, case, folder):
    with mlflow.start_run() as run:
        log = RunTuningLog(MlflowAdapter().open_run(), lambda _done, _note="": None, "map50")
        result = tune(task, search_data(case), case, folder, log)
        log.finish(result)
    return run.info.run_id, result


def test_a_run_for_each_trial_below_that_of_the_search(tracking, tmp_path):
    task = Quadratic(tmp_path / "diary", fails_at=(24,))
    parent, result = search(
        task, search_plan({"grid": [{"batch": 24}, {"batch": 12}, {"batch": 8}]}, epochs=3), tmp_path / "s"
    )
    client = mlflow.MlflowClient(tracking)
    experiment = client.get_experiment_by_name("toy").experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'", order_by=["start_time ASC"])
    assert [child.data.tags["visionops.trial"] for child in children] == ["failed", "complete", "complete"]
    assert [child.info.status for child in children] == ["FAILED", "FINISHED", "FINISHED"]
    assert [child.data.params for child in children] == [{"batch": "24"}, {"batch": "12"}, {"batch": "8"}]
    assert children[0].data.tags["visionops.trial.note"] == "the loss is not a number"
    last = children[2]
    assert last.data.metrics["val_map50_final"] == result.value
    curve = client.get_metric_history(last.info.run_id, "val_map50")
    assert {m.step: m.value for m in curve} == pytest.approx({e: result.value * (1 - 0.5**e) for e in (1, 2, 3)})

    best = json.loads((tmp_path / "artifacts" / parent / "artifacts" / "best.json").read_text())
    assert (best["settings"], best["value"], best["trial"]) == ({"batch": 8}, result.value, 2)
    assert (tmp_path / "artifacts" / parent / "artifacts" / "tuning" / "report.html").is_file()
    assert client.get_run(parent).data.tags["best.batch"] == "8"
