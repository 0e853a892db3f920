"""Test a pipeline as a DAG: the archive that ZenML writes, and how a real Airflow loads it."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import kubernetes_validate
import pytest
import yaml
from zenml import pipeline, step

import run
from launch import MonitorRequest, TrainRequest
from launch.dags import dag_plan, following_training, retraining_plan
from launch.preparation import PipelineCall
from launch.service import start_call
from pipelines.retraining_trigger import main as trigger
from stacks.airflow_dag import ENV_ZENML_AIRFLOW_RUN_ID, NOTHING_TO_DO
from stacks.apply import apply
from stacks.integrations import leave_out_unused_integrations
from stacks.run_options import DagPlan
from tests.conftest import ROOT
from tests.helpers.s3 import s3_bucket, s3_server
from tests.stacks.test_run_options import STEPS
from tests.stacks.test_spec import CLUSTER
from visionops.config import load_config
from visionops.monitoring.policy import Action, Decision

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

AIRFLOW = ROOT / ".airflow" / "bin" / "python"
CRON = "15 6 * * *"


@pytest.fixture(scope="module")
def folder(module_zenml_home, tmp_path_factory) -> Iterator[Path]:
    """Write DAGs of the sample: a training now, a scheduled monitoring, and the training that it may start."""
    from zenml.client import Client

    from pipelines.monitoring import monitoring
    from pipelines.training import training

    folder = tmp_path_factory.mktemp("dags")
    config = load_config(ROOT / "configs" / "sample.yaml", ["schedules={}"])
    with s3_server() as address, s3_bucket(address, "vision"), pytest.MonkeyPatch.context() as patch:
        mine = {"AIRFLOW_DAGS": str(folder), "S3_ENDPOINT": address, "TRAIN_GPUS": "2"}
        for name, value in (CLUSTER | {f"VISIONOPS_{name}": value for name, value in mine.items()}).items():
            patch.setenv(name, value)
        leave_out_unused_integrations()
        apply("airflow")
        Client().activate_stack("airflow")
        scheduled = MonitorRequest(schedule=CRON)
        retraining = following_training(scheduled)
        inputs = {"source_fingerprint": "x"}
        start_call(PipelineCall(training, inputs), TrainRequest(), config, DagPlan())
        call = PipelineCall(monitoring, {"is_requested": False, "tells": True})
        start_call(call, scheduled, config, dag_plan(scheduled, config.name))
        start_call(PipelineCall(training, inputs), retraining, config, retraining_plan(config))
        yield folder


def configuration(archive: Path) -> dict[str, Any]:
    with zipfile.ZipFile(archive) as files:
        assert files.read("dag.py") == (ROOT / "stacks" / "airflow_dag.py").read_bytes()
        return json.loads(files.read("config.json"))


def test_the_dags_are_those_of_the_pipelines(folder):
    names = sorted(path.stem for path in folder.glob("*.zip"))
    assert names[:2] == ["monitoring-sample", "retraining-sample"]
    (once,) = names[2:]
    training, retraining, monitoring = (configuration(folder / f"{n}.zip") for n in (once, names[1], names[0]))
    assert training["schedule"] == "@once"
    assert monitoring["schedule"] == CRON
    assert retraining["dag_args"]["on_demand"]
    for dag in (training, retraining):
        assert [task["id"] for task in dag["tasks"]] == STEPS
        assert {task["docker_image"] for task in dag["tasks"]} == {"registry/pipeline:1"}


def test_a_real_airflow_loads_them_without_errors_and_makes_pods_of_them(folder, tmp_path):
    if not AIRFLOW.is_file():
        pytest.skip("Airflow is absent: make airflow")
    kubeconfig = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    environment = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "HOME": str(tmp_path),
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "PATH": os.environ["PATH"],
    }
    result = tmp_path / "result.json"
    program = ROOT / "tests" / "stacks" / "airflow" / "load.py"
    command = [str(AIRFLOW), str(program), str(folder), str(result)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(result.read_text())
    assert found["errors"] == {}
    dags = found["dags"]
    monitoring, retraining = dags["monitoring-sample"], dags["retraining-sample"]
    (training,) = (dag for name, dag in dags.items() if name.startswith("training"))
    assert (monitoring["schedule"], retraining["schedule"], training["schedule"]) == (CRON, None, "@once")
    assert all((dag["catchup"], dag["max_active_runs"]) == (False, 1) for dag in dags.values())

    assert set(training["tasks"]) == set(retraining["tasks"]) == set(STEPS)
    assert training["tasks"]["release_model"]["upstream"] == ["gate", "prepare", "register"]
    pods = {task: entry["pod"] for dag in dags.values() for task, entry in dag["tasks"].items() if entry["pod"]}
    for pod in pods.values():
        for version in ("1.30", "1.35"):
            kubernetes_validate.validate(pod, version, strict=True)
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "registry/pipeline:1"
        assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        assert variables[ENV_ZENML_AIRFLOW_RUN_ID] == "{{ run_id }}"
        assert pod["metadata"]["namespace"] == "vision"
    (train,) = pods["train"]["spec"]["containers"]
    assert train["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
    assert pods["train"]["spec"]["activeDeadlineSeconds"] == 172800

    asks, starts = monitoring["tasks"]["ask"], monitoring["tasks"]["start_retraining-sample"]
    assert asks["pod"]["spec"]["containers"][0]["command"] == ["python", "-m", "pipelines.retraining_trigger"]
    assert asks["skips_on"] == [NOTHING_TO_DO]
    assert "notify" in asks["upstream"]
    assert (starts["upstream"], starts["starts"]) == (["ask"], "retraining-sample")


@step
def decide_retraining(action: str) -> Annotated[Decision, "retraining"]:
    """Return a decision of monitoring."""
    return Decision(action=Action(action), reasons=(), sentence=f"{action}: because")


@pipeline(enable_cache=False)
def decided(action: str) -> None:
    """Run the shortest possible monitoring."""
    decide_retraining(action)


@pytest.mark.parametrize(("action", "code"), [(Action.RETRAIN, 0), (Action.ALERT, NOTHING_TO_DO)])
def test_a_training_follows_only_if_monitoring_requests_one(zenml_home, monkeypatch, action, code):
    made = decided(action.value)
    monkeypatch.setenv(ENV_ZENML_AIRFLOW_RUN_ID, made.orchestrator_run_id)
    arguments = ["--snapshot_id", str(made.snapshot.id), "--step_name", "decide_retraining", "--other", "x"]
    assert trigger(arguments) == code


def test_a_schedule_is_a_cron_expression(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--schedule", "daily"])
    assert "--schedule 'daily' is not a cron expression" in capsys.readouterr().err
