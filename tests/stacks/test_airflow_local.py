"""Test the stack `airflow-local` without an Airflow: the contents of its DAGs and the work of a task.

tests/integration/test_airflow_local.py has the real Airflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from typer.testing import CliRunner
from zenml import pipeline, step

from launch.cli import app
from launch.dags import dag_plan
from launch.requests import MonitorRequest
from pipelines.airflow_task import main
from stacks.airflow_dag import ENV_ZENML_AIRFLOW_RUN_ID
from stacks.apply import apply
from stacks.integrations import leave_out_unused_integrations
from stacks.parent_death import die_with_parent
from stacks.run_options import run_options
from stacks.same_code import CODE_VARIABLE, code_digest
from stacks.spec import load_stack
from stacks.stopping import close_run
from stacks.use_case_lock import use_case_lock
from tests.conftest import ROOT
from visionops.errors import StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

FAILS = "VISIONOPS_TEST_FAILS"


@step
def count(path: str) -> Annotated[int, "counted"]:
    """Append a line to a file; fail if a variable says so."""
    if os.environ.get(FAILS):
        raise StackError("the disk is full; free it")
    with Path(path).open("a") as file:
        file.write("ran\n")
    return 1


@pipeline(enable_cache=False)
def counting(path: str) -> None:
    """Run the shortest possible pipeline."""
    count(path)


@pytest.fixture(scope="module")
def dag(module_zenml_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Return the contents of a DAG's archive."""
    from zenml.client import Client

    folder = tmp_path_factory.mktemp("airflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONOPS_AIRFLOW_DAGS", str(folder))
        leave_out_unused_integrations()
        apply("airflow-local")
        Client().activate_stack("airflow-local")
        plan = dag_plan(MonitorRequest(schedule="15 6 * * *", decide_only=True), "line")
        options = run_options(load_stack("airflow-local"), {"count": "count"}, plan)
        counting.with_options(**options)(str(folder / "ran"))
        with zipfile.ZipFile(folder / "monitoring-line.zip") as files:
            found = json.loads(files.read("config.json"))
        yield found | {"home": module_zenml_home, "ran": folder / "ran"}


@pytest.fixture
def task(dag: dict[str, Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the only task of the DAG, with its variables set for a run of this test."""
    (found,) = dag["tasks"]
    for name, value in (found["environment"] | found["operator_args"]["env"]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(ENV_ZENML_AIRFLOW_RUN_ID, request.node.name)
    dag["ran"].unlink(missing_ok=True)
    yield found
    die_with_parent(dies=False)


def words(task: dict[str, Any]) -> list[str]:
    return [*task["operator_args"]["step"][2:], *task["arguments"]]


def statuses() -> tuple[str, list[str]]:
    """Return how ZenML's run ended, and the status of each try of its step."""
    from zenml.client import Client

    (run,) = Client().list_pipeline_runs(orchestrator_run_id=os.environ[ENV_ZENML_AIRFLOW_RUN_ID]).items
    steps = Client().list_run_steps(pipeline_run_id=run.id, sort_by="asc:created").items
    return run.status.value, [step.status.value for step in steps]


def test_a_task_is_a_command_of_our_environment_that_is_tried_again(dag, task):
    given = task["operator_args"]
    assert task["operator_source"].endswith(".BashOperator")
    assert (given["python"], given["cwd"], given["retries"], given["retry_delay"]) == (
        sys.executable,
        str(Path.cwd()),
        2,
        30,
    )
    assert given["step"] == ["-m", "pipelines.airflow_task", "--use_case", "line"]
    assert {**given["env"], "DO_NOT_TRACK": "1", "ZENML_ANALYTICS_OPT_IN": "false"} == given["env"]
    assert (given["env"]["VISIONOPS_HOME"], given["env"]["PYTHONPATH"]) == (str(dag["home"]), str(ROOT))
    assert dag["dag_args"] == {"max_active_runs": 1, "max_active_tasks": 1}
    assert not task["docker_image"]


def test_a_failed_task_says_why_and_its_next_try_completes_the_run(dag, task, monkeypatch, capsys):
    monkeypatch.setenv(FAILS, "1")
    assert main(words(task)) == 2
    assert capsys.readouterr().err.endswith("error: the disk is full; free it\n")
    assert statuses() == ("running", ["retrying"])
    monkeypatch.delenv(FAILS)
    assert main(words(task)) == 0
    assert statuses() == ("completed", ["retried", "completed"])
    assert main(words(task)) == 0
    assert "count: finished before its task was killed; not run again" in capsys.readouterr().err
    assert dag["ran"].read_text() == "ran\n"


def test_a_run_that_has_failed_for_good_is_not_taken_up_again(dag, task, monkeypatch, capsys):
    monkeypatch.setenv(FAILS, "1")
    assert [main(words(task)) for _ in range(4)] == [2] * 4
    assert "count was tried 3 times, so the run has failed for good; trigger the DAG again" in capsys.readouterr().err
    assert statuses() == ("failed", ["retried", "retried", "failed"])


def test_a_run_that_was_stopped_is_not_taken_up_again(dag, task, monkeypatch, capsys):
    from zenml.client import Client
    from zenml.enums import ExecutionStatus
    from zenml.orchestrators.publish_utils import publish_pipeline_run_status_update

    monkeypatch.setenv(FAILS, "1")
    assert main(words(task)) == 2
    monkeypatch.delenv(FAILS)
    (run,) = Client().list_pipeline_runs(orchestrator_run_id=os.environ[ENV_ZENML_AIRFLOW_RUN_ID]).items
    publish_pipeline_run_status_update(run.id, ExecutionStatus.STOPPING)
    capsys.readouterr()
    assert main(words(task)) == 2
    said = f"run {run.name}: was stopped; run its command again, or trigger the DAG again"
    assert capsys.readouterr().err.endswith(f"error: {said}\n")
    assert statuses()[0] == "stopped"
    assert not dag["ran"].exists()


def test_a_run_that_was_stopped_before_airflow_began_does_not_begin(dag, task, capsys):
    from zenml.client import Client
    from zenml.pipelines.run_utils import create_placeholder_run

    snapshot = task["arguments"][task["arguments"].index("--snapshot_id") + 1]
    handed_over = create_placeholder_run(Client().get_snapshot(snapshot))
    close_run(handed_over)
    try:
        assert main(words(task)) == 2
    finally:
        Client().delete_pipeline_run(handed_over.id)
    assert f"error: run {handed_over.name}: was stopped; run its command again" in capsys.readouterr().err
    assert not dag["ran"].exists()


def test_a_run_whose_last_try_was_killed_has_failed(dag, task, monkeypatch):
    monkeypatch.setenv(FAILS, "1")
    assert main(words(task)) == 2
    assert statuses() == ("running", ["retrying"])
    assert main(["--gave_up", *words(task)]) == 0
    assert statuses()[0] == "failed"
    assert main(words(task)) == 2  # as after a task is cleared in Airflow


def test_a_task_of_other_code_is_refused(dag, task, monkeypatch, capsys):
    monkeypatch.setenv(CODE_VARIABLE, "0123")
    assert main(words(task)) == 2
    said = capsys.readouterr().err
    assert f"its code ({code_digest()}) differs from the code that created this DAG (0123); create it again" in said
    assert not dag["ran"].exists()


def test_a_stack_without_airflow_schedules_nothing(dag):
    done = CliRunner().invoke(app, ["schedule", "--config", str(ROOT / "configs" / "sample.yaml"), "--stack", "local"])
    assert done.exit_code == 2
    assert "stack 'local' has no Airflow to run schedules" in done.output


def test_a_step_waits_for_another_run_of_its_use_case(monkeypatch, tmp_path):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path))
    holder = "import sys\nfrom stacks.use_case_lock import use_case_lock\n"
    holder += "with use_case_lock('line'): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder]
    other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    waited = []

    def release() -> None:
        waited.append(True)
        other.stdin.close()

    with use_case_lock("line", release):
        assert waited
        assert other.wait(60) == 0


def test_a_step_dies_with_its_task():
    lines = ["import time", "from stacks.parent_death import die_with_parent", "die_with_parent()"]
    child = "\n".join([*lines, "print('ready', flush=True)", "time.sleep(30)", "print('alive')"])
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    task = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert task.stdout.readline() == "ready\n"
    task.kill()
    task.wait(60)
    assert task.stdout.read() == ""  # ends when the step is also dead
