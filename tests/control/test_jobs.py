"""Runs as Jobs, against a cluster's API."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from deploy.control.runs.commands import command_of
from deploy.control.runs.jobs import JobLauncher
from deploy.control.runs.launcher import RunObservation, Stage
from tests.helpers.cluster import NAMESPACE, running_cluster
from visionops.errors import ConfigError, StackError
from visionops.runs.states import Kind, Run, RunRequest

TEMPLATE = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"labels": {"team": "vision"}},
    "spec": {"template": {"spec": {"serviceAccountName": "runner", "containers": [{"name": "run", "image": "x:1"}]}}},
}


@pytest.fixture
def launcher(tmp_path: Path) -> JobLauncher:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(TEMPLATE))
    return JobLauncher.from_file(path, NAMESPACE)


def test_a_run_is_one_job_from_its_start_to_its_end(launcher: JobLauncher, tmp_path: Path):
    run = Run("a" * 32, RunRequest(Kind.RETRAIN, "Steel / 3"), "planner", datetime.now(UTC), started=datetime.now(UTC))
    command = command_of(run, Path("configs/steel.yaml"), "kubernetes")
    with running_cluster(tmp_path) as cluster:
        cluster.kinds.add("jobs")
        assert launcher.observe(run) == RunObservation(Stage.WAITING)
        for _ in range(2):  # the second time by a service that does not know of the first
            launcher.start(run, command)
        job = cluster.find("jobs")
        assert job["metadata"]["labels"] == {
            "team": "vision",
            "visionops.dev/run": run.id,
            "visionops.dev/kind": "retrain",
            "visionops.dev/use-case": "Steel-3",
        }
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert container["command"] == [
            "python", "-m", "launch.cli", "train", "--config", "configs/steel.yaml", "--stack", "kubernetes",
        ]  # fmt: skip
        assert {"name": "VISIONOPS_INTERRUPT", "value": "stop"} in container["env"]
        assert (job["spec"]["backoffLimit"], job["spec"]["template"]["spec"]["restartPolicy"]) == (0, "Never")
        assert launcher.observe(run) == RunObservation(Stage.ALIVE)
        assert launcher.log_tail(run, 100) == ""
        jobs, name = launcher._jobs, job["metadata"]["name"]
        jobs.patch_namespaced_job_status(name, NAMESPACE, {"status": {"failed": 1}})
        assert launcher.observe(run) == RunObservation(Stage.ENDED, 1)
        jobs.patch_namespaced_job_status(name, NAMESPACE, {"status": {"succeeded": 1, "failed": 0}})
        assert launcher.observe(run) == RunObservation(Stage.ENDED, 0)
        launcher.stop(run, hard=False)
        launcher.stop(run, hard=True)  # it is gone already
        old = dataclasses.replace(run, started=datetime.now(UTC) - timedelta(minutes=2))
        assert launcher.observe(old) == RunObservation(Stage.GONE)
        assert launcher.observe(dataclasses.replace(run, cancelled_at=datetime.now(UTC))) == RunObservation(Stage.GONE)


def test_without_a_cluster_a_run_says_so(launcher: JobLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    run = Run("a" * 32, RunRequest(Kind.RETRAIN, "steel"), "planner", datetime.now(UTC))
    with pytest.raises(StackError, match="cannot connect to a cluster: neither"):
        launcher.observe(run)


@pytest.mark.parametrize(
    "text", ["", "[", "kind: Pod", "kind: Job\nspec: 1", "kind: Job\nspec: {template: {spec: {containers: []}}}"]
)
def test_an_invalid_job_template_is_refused(text: str, tmp_path: Path):
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"--job-template: .*job\.yaml"):
        JobLauncher.from_file(path, "x")
