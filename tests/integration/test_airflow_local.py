"""Test the stack `airflow-local` in a real Airflow: training, monitoring and the requested retraining, twice.

Airflow has its own environment without ZenML and this project. Takes many minutes: make airflow.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.helpers.programs import until
from tests.helpers.zenml_homes import own_zenml
from tests.integration.airflow_site import Site, airflow_site
from tests.stacks.test_run_options import STEPS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes many minutes: make airflow"),
    pytest.mark.filterwarnings("ignore"),  # ZenML, SQLAlchemy and MLflow warn of their own code
]

NAME = "line"
HALF = 4
"""Half of the training's epochs."""
TRAINING, MONITORING, RETRAINING = f"training-{NAME}", f"monitoring-{NAME}", f"retraining-{NAME}"
_DAY = (datetime.now(UTC).isoweekday() + 3) % 7
"""A day of the week that does not start during the test, so that all runs are started by the test."""
WEEKLY, MONITORED, RETRAINED = f"0 3 * * {_DAY}", f"15 6 * * {_DAY}", f"0 2 * * {_DAY}"
MONITORING_STEPS = ["compare_traffic", "score_labelled_traffic", "estimate_performance", "decide_retraining", "notify"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with airflow_site(tmp_path_factory.mktemp("site"), NAME) as made:
        made.write_config(training=WEEKLY, retraining=RETRAINED)
        assert f"{TRAINING}, {RETRAINING}" in made.command("-m", "launch.cli", "schedule")
        yield made


def zenml_steps(site: Site, dag_run: str) -> tuple[str, dict[str, list[str]]]:
    """Return how ZenML's run of a DAG run ended, and the status of each try of its steps."""
    with own_zenml(site.folder):
        from zenml.client import Client

        (run,) = Client().list_pipeline_runs(orchestrator_run_id=dag_run).items
        found: dict[str, list[str]] = {}
        for step in Client().list_run_steps(pipeline_run_id=run.id, size=200, sort_by="asc:created").items:
            found.setdefault(step.name, []).append(step.status.value)
        return run.status.value, found


def run_training(site: Site, dag: str, run: str, *, killed: bool = False) -> None:
    """Follow a run of the training pipeline: every task runs once, except a killed one."""
    if killed:
        site.kill_training(HALF)
    tasks = site.finish(dag, run)
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(STEPS, "success")
    assert {name: task["try_number"] for name, task in tasks.items()} == dict.fromkeys(STEPS, 1) | {"train": 1 + killed}
    status, tries = zenml_steps(site, run)
    assert status == "completed"
    assert tries == {name: ["completed"] for name in STEPS} | ({"train": ["retried", "completed"]} if killed else {})


def see(site: Site, run: str, number: int, pattern: str) -> re.Match[str]:
    """Find a line in the log of a try of `train`, and print it."""
    log = site.airflow.log(TRAINING, run, "train", number)
    found = re.search(f".*{pattern}.*", log)
    assert found, log
    sys.stdout.write(f"train, try {number}: {found[0]}\n")
    return found


def run_monitoring(site: Site) -> str:
    """Follow a run of the monitoring and return the run of the retraining that it started."""
    before = len(site.airflow.runs(RETRAINING))
    tasks = site.finish(MONITORING, site.airflow.trigger(MONITORING))
    expected = [*MONITORING_STEPS, "ask", f"start_{RETRAINING}"]
    assert {name: task["state"] for name, task in tasks.items()} == dict.fromkeys(expected, "success")
    return str(until(lambda: site.airflow.runs(RETRAINING)[before:], 300)[0]["dag_run_id"])


def test_training_monitoring_and_retraining_run_in_a_real_airflow_twice(site):
    known = site.airflow.wait_for_dags(TRAINING, RETRAINING)
    assert known[TRAINING]["timetable_summary"] == WEEKLY
    assert known[RETRAINING]["timetable_summary"] == RETRAINED
    assert not site.airflow.runs(TRAINING), "Airflow ran a missed interval"

    training = site.airflow.trigger(TRAINING)
    run_training(site, TRAINING, training, killed=True)
    see(site, training, 1, "return code -9")
    resumed = see(site, training, 2, r"training goes on after epoch (\d)")
    assert int(resumed[1]) >= HALF - 1  # the last complete epoch before the kill

    # Monitoring needs a champion; `--retrain`, because there is no drift here.
    made = site.command("run.py", "--pipeline", "monitoring", "--retrain", "--schedule", MONITORED)
    assert f"{MONITORING}, {RETRAINING}" in made
    assert site.airflow.wait_for_dags(MONITORING)[MONITORING]["timetable_summary"] == MONITORED
    run_training(site, RETRAINING, run_monitoring(site))

    # Otherwise the second round would find finished trainings.
    shutil.rmtree(Path(site.env["VISIONOPS_HOME"], "training"))
    run_training(site, TRAINING, site.airflow.trigger(TRAINING))
    run_training(site, RETRAINING, run_monitoring(site))
