"""Test active runs in a cluster: the same command follows them, others are refused, and they can be stopped."""

from __future__ import annotations

import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import stacks.following as following_module
from launch import TrainRequest
from launch.elsewhere import attach, request_digest
from launch.interrupts import confirm_on_interrupt
from launch.preparation import PipelineCall
from launch.service import start_call
from stacks.integrations import leave_out_unused_integrations
from stacks.run_options import DagPlan
from tests.conftest import ROOT
from tests.helpers.admission import quota, webhook
from tests.helpers.cluster import Cluster, running_cluster
from tests.helpers.programs import until
from tests.helpers.s3 import s3_bucket, s3_server
from tests.stacks.test_run_options import VARIABLES
from visionops.config import Config, load_config
from visionops.errors import ConfigError, StackError

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code

NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu.",
}


class Client:
    """A user who runs a command and waits for its end."""

    def __init__(self, config: Config, request: TrainRequest) -> None:
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work, args=(config, request), daemon=True)
        self._thread.start()

    def _work(self, config: Config, request: TrainRequest) -> None:
        from pipelines.training import training

        try:
            start_call(PipelineCall(training, {"source_fingerprint": "x"}), request, config, DagPlan())
        except Exception as error:  # noqa: BLE001 - the test checks every error
            self.error = error

    def end(self) -> str:
        """Wait for the end and return the error."""
        self._thread.join(300)
        assert not self._thread.is_alive()
        return str(self.error)


@pytest.fixture(scope="module")
def cluster(module_zenml_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster that accepts Jobs without running them, with `kubernetes` as the active stack."""
    from zenml.client import Client

    from stacks.apply import apply

    with (
        running_cluster(tmp_path_factory.mktemp("cluster")) as cluster,
        s3_server() as address,
        s3_bucket(address, "vision"),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in (VARIABLES | {"VISIONOPS_S3_ENDPOINT": address}).items():
            patch.setenv(name, value)
        patch.setattr(following_module, "_POLL_S", 0.1)
        cluster.kinds |= {"jobs", "serviceaccounts", "rolebindings"}
        leave_out_unused_integrations()
        apply("kubernetes")
        Client().activate_stack("kubernetes")
        yield cluster


@pytest.fixture
def config(request: pytest.FixtureRequest) -> Config:
    """Return a use case for this test only, because ZenML stores the runs of other tests."""
    name = request.node.name.replace("_", "-")[:40].rstrip("-")
    return load_config(ROOT / "configs" / "sample.yaml", [f"name={name}"])


def remove_jobs(cluster: Cluster) -> None:
    """Remove Jobs through the API, because a Job removed from its memory during the creating request reappears."""
    from stacks.run_progress import orchestrator_namespace

    pods = orchestrator_namespace()
    assert pods is not None
    for name in jobs(cluster):
        pods.delete("Job", name)


@pytest.fixture(autouse=True)
def _no_job(cluster: Cluster) -> None:
    """Remove the Job of a failed test, which would affect the next test."""
    remove_jobs(cluster)


def jobs(cluster: Cluster) -> dict[str, Any]:
    return {key[2]: o.raw for key, o in cluster.objects.items() if key[0].plural == "jobs" and not o.deleted}


def pod_of(cluster: Cluster, job: dict[str, Any], **status: Any) -> None:
    """Create the pod of a Job, as the cluster would."""
    name = f"{job['metadata']['name']}-x"
    template = job["spec"]["template"]
    labels = template["metadata"]["labels"] | {"job-name": job["metadata"]["name"]}
    manifest = {
        "metadata": template["metadata"] | {"name": name, "labels": labels},
        "spec": template["spec"],
        "status": status,
    }
    cluster.pods[name] = {"owner": None, "mark": "", "ready": False, "manifest": manifest}


def test_a_run_is_followed_by_the_same_command_and_in_the_way_of_another(cluster, config, capsys):
    from zenml.client import Client as Zenml

    from stacks.stopping import stop_run
    from stacks.under_way import require_idle, runs_under_way

    first = Client(config, TrainRequest())
    until(lambda: jobs(cluster))
    (under_way,) = runs_under_way(config.name)
    (job,) = jobs(cluster).values()
    pod_of(cluster, job, phase="Pending", conditions=[NO_NODE])
    same = Client(config, TrainRequest())
    other = Client(config, TrainRequest(cache=False))
    busy = (
        rf"{config.name}: busy on stack 'kubernetes' with run {under_way.name}, started "
        rf"\d{{4}}-\d\d-\d\d \d\d:\d\d UTC by \S+ \(\S+@\S+\); wait for its end, or stop it: "
        rf"visionops stop {under_way.name} --stack kubernetes"
    )
    assert re.fullmatch(busy, other.end())
    with pytest.raises(StackError, match=busy):
        require_idle(config.name)
    said = ""

    def attached() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return f"attached to run {under_way.name}, started" in said and said.count("run: waits; ") == 2

    until(attached)
    assert "does not fit on any node (0/1 nodes are available: 1 Insufficient cpu.)" in said
    stop_run(under_way.name)  # nothing has started: only the Job exists
    assert jobs(cluster) == {}
    assert Zenml().get_pipeline_run(under_way.name).status.value == "stopped"
    stopped = f"run {under_way.name}: was stopped; run the same command to start it again"
    assert (first.end(), same.end()) == (stopped, stopped)
    assert runs_under_way(config.name) == []
    with pytest.raises(StackError, match=f"run {under_way.name}: has already ended, as stopped"):
        stop_run(under_way.name)
    with pytest.raises(StackError, match="run 'x': unknown"):
        stop_run("x")
    assert attach(request_digest(TrainRequest(), config), config.name) is None


def test_a_run_whose_first_pod_is_denied_says_why(cluster, config, capsys, monkeypatch):
    from stacks.stopping import stop_run
    from stacks.under_way import runs_under_way

    monkeypatch.setattr(cluster, "admission", [quota("pods")])
    client = Client(config, TrainRequest())
    said = ""

    def waits() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "run: waits; " in said

    until(waits)
    assert "run: waits; exceeded quota: team, requested: requests.cpu=1" in said  # it may still be admitted
    (run,) = runs_under_way(config.name)
    stop_run(run.name)
    assert "was stopped" in client.end()
    monkeypatch.setattr(cluster, "admission", [webhook("pods", "no label owner")])
    client = Client(config, TrainRequest())
    said = (
        r'run \S+: admission webhook "policy.plant.example" denied the request: no label owner; change the setting .*'
    )
    assert re.fullmatch(said, client.end())
    (run,) = runs_under_way(config.name)
    stop_run(run.name)


def test_an_interrupt_stops_the_run_or_leaves_it(cluster, config, monkeypatch):
    from stacks.under_way import runs_under_way

    client = Client(config, TrainRequest())
    until(lambda: jobs(cluster))
    (run,) = runs_under_way(config.name)
    shown: list[str] = []

    def interrupt(name: str = run.name) -> list[str]:
        shown.clear()
        with pytest.raises(KeyboardInterrupt), confirm_on_interrupt(name, "kubernetes", shown.append):
            raise KeyboardInterrupt
        return shown

    goes_on = f"run {run.name} continues; the same command attaches to it; stop it with: visionops stop {run.name}"
    assert interrupt() == [f"{goes_on} --stack kubernetes"]  # no terminal
    assert interrupt("another") == []  # it was not submitted yet
    monkeypatch.setenv("VISIONOPS_INTERRUPT", "maybe")
    with pytest.raises(ConfigError, match="VISIONOPS_INTERRUPT: expected stop or leave, got 'maybe'"):
        interrupt()
    monkeypatch.delenv("VISIONOPS_INTERRUPT")
    keys, terminal = pty.openpty()
    with (
        os.fdopen(terminal, encoding="utf-8") as stdin,
        os.fdopen(os.dup(terminal), "w", encoding="utf-8") as stderr,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stderr", stderr)
        os.write(keys, b"\n")
        assert interrupt() == [f"{goes_on} --stack kubernetes"]
        os.write(keys, b"y\n")
        assert interrupt() == [f"stopping run {run.name}", f"run {run.name}: stopped"]
    os.close(keys)
    assert "was stopped" in client.end()


def test_a_run_whose_job_is_gone_neither_lasts_nor_keeps_others_waiting(cluster, config, monkeypatch):
    from stacks.under_way import runs_under_way

    client = Client(config, TrainRequest())
    until(lambda: jobs(cluster))
    remove_jobs(cluster)
    assert len(runs_under_way(config.name)) == 1  # a client may be about to create it
    monkeypatch.setattr("stacks.under_way._STARTING", timedelta(0))
    assert runs_under_way(config.name) == []
    assert re.search(r"the Job that starts its steps is gone, but the run stays \w+", client.end())
