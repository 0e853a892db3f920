"""Run a small use case in a real Airflow on one machine: our environment, Airflow, and the shared folder of DAGs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.conftest import ROOT
from tests.helpers.airflow import Airflow, running_airflow
from tests.helpers.programs import until

__all__ = ["Site", "airflow_site"]


class Site:
    """A running machine, started by `airflow_site`."""

    def __init__(self, folder: Path, name: str, airflow: Airflow, variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.name = name
        self.airflow = airflow
        self.config = folder / f"{name}.yaml"
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "VISIONOPS_HOME": str(folder / "visionops"),
            "ZENML_CONFIG_PATH": str(folder / "config"),
            **variables,
        }

    def write_config(self, epochs: int = 8, **schedules: str) -> None:
        """Write the smallest version of the sample with these schedules."""
        found = yaml.safe_load((ROOT / "configs" / "sample.yaml").read_text())
        found |= {"name": self.name, "schedules": schedules}
        found["data"]["source"] |= {"images": 48, "size": 128}
        found["training"] |= {"image_size": 64, "epochs": epochs}
        found |= {"evaluation": {"worst_images": 2, "latency_images": 2}, "validation": {"min_instances": 0}}
        found |= {"gate": {"minimum": 0, "min_images": 1}, "serving": {"port": 0}}
        self.config.write_text(yaml.safe_dump(found))

    def words(self, *words: str) -> list[str]:
        """Return one of our commands for the use case on the stack."""
        return [sys.executable, *words, "--config", str(self.config), "--stack", "airflow-local"]

    def command(self, *words: str) -> str:
        """Run one of our commands to its end."""
        done = subprocess.run(
            self.words(*words), cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=1800, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def step_pid(self, step: str) -> int:
        """Return the process that currently runs a step; its workers have the same command line."""
        processes = psutil.process_iter(["cmdline"])
        same = [p for p in processes if {"pipelines.airflow_task", step} <= set(p.info["cmdline"] or ())]
        mine = {p.pid: p for p in same if p.environ().get("VISIONOPS_HOME") == self.env["VISIONOPS_HOME"]}
        (pid,) = (pid for pid, process in mine.items() if process.ppid() not in mine)
        return pid

    def kill_training(self, epochs: int) -> None:
        """Kill the training step after a number of epochs, as the kernel does when memory runs out."""
        home = Path(self.env["VISIONOPS_HOME"])

        def is_there() -> bool:
            lines = [path.read_text().count("\n") for path in home.rglob("run/results.csv")]
            return bool(lines) and max(lines) > epochs  # one line is the header

        until(is_there, 1800)
        os.kill(self.step_pid("train"), signal.SIGKILL)

    def finish(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Wait for a run of a DAG, print the time of each task, and return its tasks."""
        tasks = self.airflow.wait(dag, run, 3600)
        for name, task in sorted(tasks.items(), key=lambda item: item[1]["start_date"] or ""):
            took = f"{task['duration'] or 0:.0f} s"
            line = f"{dag:<16} {name:<24} {task['state']:<8} try {task['try_number']}  {task['start_date']}  {took}"
            sys.stdout.write(f"{line}\n")
        return tasks


@contextmanager
def airflow_site(folder: Path, name: str, variables: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Start an Airflow for a use case of this name; its endpoints are stopped at the end.

    Args:
        variables: Additional environment variables.
    """
    dags = folder / "dags"
    dags.mkdir()
    with running_airflow(folder / "airflow", dags) as airflow:
        made = Site(folder, name, airflow, {"VISIONOPS_AIRFLOW_DAGS": str(dags), **(variables or {})})
        try:
            yield made
        finally:
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if "deploy.serving" in words and any(made.env["VISIONOPS_HOME"] in word for word in words):
                    process.terminate()
