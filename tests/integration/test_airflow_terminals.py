"""Test the terminals of users during a run in a real Airflow with a real ZenML server: make airflow."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.helpers.programs import until
from tests.helpers.terminals import CTRL_C, ENTER, terminal
from tests.helpers.zenml_homes import zenml_server
from tests.integration.airflow_site import airflow_site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes minutes: make airflow"),
]

AT_WORK = r"\w+: (runs|done in)"


def test_a_run_is_left_attached_to_and_stopped_by_two_clients(tmp_path):
    password = secrets.token_hex(8)
    login = {"ZENML_STORE_USERNAME": "default", "ZENML_STORE_PASSWORD": password}
    with (
        zenml_server(tmp_path, password) as zenml,
        airflow_site(tmp_path, "lane", {"ZENML_STORE_URL": zenml, **login}) as site,
    ):
        anna = site.env
        ben = {**anna, "ZENML_CONFIG_PATH": str(tmp_path / "ben")}

        def call(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(words, cwd=ROOT, env=ben, capture_output=True, text=True, timeout=600, check=False)

        site.write_config(epochs=400)  # too long to end by itself
        command = site.words("run.py")
        site.command("run.py")
        (dag,) = until(lambda: [name for name in site.airflow.dags() if name.startswith("training")], 300)

        with terminal(command, ROOT, anna) as first:
            run = first.expect(r"attached to run (\S+), started")[1]
            first.expect(AT_WORK)
            first.press(CTRL_C)
            first.expect(re.escape(f"stop run {run} in the cluster as well? [y/N] "))
            first.press(ENTER)
            stops = f"visionops stop {run} --stack airflow-local"
            first.expect(re.escape(f"run {run} continues; the same command attaches to it; stop it with: {stops}"))
            assert first.end() == 130
            assert first.text.count("[y/N]") == 1

        busy = call(*command, "--set=training.epochs=3")
        assert busy.returncode == 2, busy.stderr
        assert f"error: lane: busy on stack 'airflow-local' with run {run}, started" in busy.stderr
        assert busy.stderr.endswith(f"stop it: {stops}\n")

        with terminal(command, ROOT, ben) as same:
            same.expect(re.escape(f"attached to run {run}, started"))
            same.expect("train: runs", 1200)
            same.press(CTRL_C)
            same.expect(re.escape(f"stop run {run} in the cluster as well? [y/N] "))
            same.press(f"y{ENTER}")
            same.expect(re.escape(f"run {run}: stopped"))
            assert same.end() == 130
        (first_run,) = site.airflow.runs(dag)
        tasks = site.finish(dag, first_run["dag_run_id"])
        assert (tasks["train"]["state"], tasks["evaluate"]["state"]) == ("failed", "upstream_failed")
        log = site.airflow.log(dag, first_run["dag_run_id"], "train", 2)
        assert f"error: run {run}: was stopped; run its command again, or trigger the DAG again" in log

        site.command("run.py")
        with terminal(command, ROOT, anna) as second:
            other = second.expect(r"attached to run (\S+), started")[1]
            assert other != run
            second.expect(AT_WORK)
            stop = [sys.executable, "-m", "launch.cli", "stop", other, "--stack", "airflow-local"]
            stopped = call(*stop)
            assert (stopped.returncode, stopped.stdout) == (0, f"run {other}: stopped\n"), stopped.stderr
            second.expect(re.escape(f"error: run {other}: was stopped; run the same command to start it again"))
            assert second.end() == 2
        again = call(*stop)
        assert (again.returncode, again.stderr) == (2, f"error: run {other}: has already ended, as stopped\n")
