"""The stack `airflow-local` in a real Airflow: training, monitoring and the retraining it asks for, twice.

Airflow has an environment of its own and knows neither ZenML nor this project. Takes many minutes: make airflow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import ROOT
from tests.helpers.airflow import Airflow, running_airflow
from tests.helpers.programs import until
from tests.helpers.zenml_homes import own_zenml
from tests.stacks.test_placement import STEPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes many minutes: make airflow"),
    pytest.mark.filterwarnings("ignore"),  # ZenML, SQLAlchemy and MLflow warn of their own code
]

NAME = "line"
TRAINING, MONITORING, RETRAINING = f"training-{NAME}", f"monitoring-{NAME}", f"retraining-{NAME}"
WEEKLY, DAILY, MONDAYS = "0 3 * * 0", "15 6 * * *", "0 2 * * 1"
MONITORING_STEPS = ["compare_traffic", "score_labelled_traffic", "estimate_performance", "decide_retraining", "tell"]


class Site:
    """One machine: our environment, an Airflow, and the folder of DAGs between them."""

    def __init__(self, folder: Path, airflow: Airflow, dags: Path) -> None:
        self.folder = folder
        self.airflow = airflow
        self.config = folder / f"{NAME}.yaml"
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "VISIONOPS_AIRFLOW_DAGS": str(dags),
            "VISIONOPS_HOME": str(folder / "visionops"),
            "ZENML_CONFIG_PATH": str(folder / "config"),
        }

    def write_config(self, **schedules: str) -> None:
        """The sample, as small as it can be, with these schedules."""
        found = yaml.safe_load((ROOT / "configs" / "sample.yaml").read_text())
        found |= {"name": NAME, "schedules": schedules}
        found["data"]["source"] |= {"images": 48, "size": 128}
        found["training"] |= {"image_size": 64, "epochs": 8}
        found |= {"evaluation": {"worst_images": 2, "latency_images": 2}, "validation": {"min_instances": 0}}
        found |= {"gate": {"minimum": 0, "min_images": 1}, "serving": {"port": 0}}
        self.config.write_text(yaml.safe_dump(found))

    def command(self, *words: str) -> str:
        """Run one of our commands to its end."""
        command = [sys.executable, *words, "--config", str(self.config), "--stack", "airflow-local"]
        done = subprocess.run(
            command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=1800, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def step_pid(self, step: str) -> int:
        """Process that runs a step of this site now; its workers have the same command line."""
        processes = psutil.process_iter(["cmdline"])
        same = [p for p in processes if {"pipelines.airflow_task", step} <= set(p.info["cmdline"] or ())]
        mine = {p.pid: p for p in same if p.environ().get("VISIONOPS_HOME") == self.env["VISIONOPS_HOME"]}
        (pid,) = (pid for pid, process in mine.items() if process.ppid() not in mine)
        return pid

    def kill_training(self) -> None:
        """Kill the training step after its first epoch, as the kernel does where memory runs out."""
        until(lambda: list(Path(self.env["VISIONOPS_HOME"]).rglob("run/weights/last.pt")), 1800)
        os.kill(self.step_pid("train"), signal.SIGKILL)

    def finish(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Wait for a run of a DAG, print what each task took, and give its tasks."""
        tasks = self.airflow.wait(dag, run, 3600)
        for name, task in sorted(tasks.items(), key=lambda item: item[1]["start_date"] or ""):
            took = f"{task['duration'] or 0:.0f} s"
            line = f"{dag:<16} {name:<24} {task['state']:<8} try {task['try_number']}  {task['start_date']}  {took}"
            sys.stdout.write(f"{line}\n")
        return tasks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    dags = folder / "dags"
    dags.mkdir()
    with running_airflow(folder / "airflow", dags) as airflow:
        made = Site(folder, airflow, dags)
        made.write_config(training=WEEKLY, retraining=MONDAYS)
        assert f"{TRAINING}, {RETRAINING}" in made.command("-m", "launch.cli", "schedule")
        try:
            yield made
        finally:
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if "deploy.serving" in words and any(made.env["VISIONOPS_HOME"] in word for word in words):
                    process.terminate()


def zenml_steps(site: Site, dag_run: str) -> tuple[str, dict[str, list[str]]]:
    """How ZenML's run of a DAG's run ended, and the status of each try of its steps."""
    with own_zenml(site.folder):
        from zenml.client import Client

        (run,) = Client().list_pipeline_runs(orchestrator_run_id=dag_run).items
        found: dict[str, list[str]] = {}
        for step in Client().list_run_steps(pipeline_run_id=run.id, size=200, sort_by="asc:created").items:
            found.setdefault(step.name, []).append(step.status.value)
        return run.status.value, found


def run_training(site: Site, dag: str, run: str, *, killed: bool = False) -> None:
    """See a run of the training pipeline through: every task once, but for one that was killed."""
    if killed:
        site.kill_training()
    tasks = site.finish(dag, run)
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(STEPS, "success")
    assert {name: task["try_number"] for name, task in tasks.items()} == dict.fromkeys(STEPS, 1) | {"train": 1 + killed}
    status, tries = zenml_steps(site, run)
    assert status == "completed"
    assert tries == {name: ["completed"] for name in STEPS} | ({"train": ["retried", "completed"]} if killed else {})


def run_monitoring(site: Site) -> str:
    """See a run of the monitoring through; return the run of the retraining that it has started."""
    before = len(site.airflow.runs(RETRAINING))
    tasks = site.finish(MONITORING, site.airflow.trigger(MONITORING))
    expected = [*MONITORING_STEPS, "ask", f"start_{RETRAINING}"]
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(expected, "success")
    return str(until(lambda: site.airflow.runs(RETRAINING)[before:], 300)[0]["dag_run_id"])


def test_training_monitoring_and_retraining_run_in_a_real_airflow_twice(site):
    known = site.airflow.wait_for_dags(TRAINING, RETRAINING)
    assert known[TRAINING]["timetable_summary"] == WEEKLY
    assert known[RETRAINING]["timetable_summary"] == MONDAYS
    assert not site.airflow.runs(TRAINING), "made up for a time that it has missed"

    training = site.airflow.trigger(TRAINING)
    run_training(site, TRAINING, training, killed=True)
    assert "return code -9" in site.airflow.log(TRAINING, training, "train", 1)
    assert "training goes on after epoch" in site.airflow.log(TRAINING, training, "train", 2)

    # It needs a champion; `--retrain`, for there is no drift here to decide on.
    made = site.command("run.py", "--pipeline", "monitoring", "--retrain", "--schedule", DAILY)
    assert f"{MONITORING}, {RETRAINING}" in made
    assert site.airflow.wait_for_dags(MONITORING)[MONITORING]["timetable_summary"] == DAILY
    run_training(site, RETRAINING, run_monitoring(site))

    run_training(site, TRAINING, site.airflow.trigger(TRAINING))
    run_training(site, RETRAINING, run_monitoring(site))
