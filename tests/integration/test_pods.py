"""Test training on the stack `kubernetes`, with each step in a container of our image and results as on `local`.

The API server is kmock and podman is the node (`tests.helpers.node`); ZenML's server, MLflow on PostgreSQL and the S3
store are real. Needs an image of exactly this code: make images, then make pods.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from stacks.same_code import code_digest
from tests.helpers.cluster import NAMESPACE, Cluster, running_cluster
from tests.helpers.node import Node, account_of
from tests.helpers.s3 import ENVIRONMENT
from tests.helpers.terminals import CTRL_C, ENTER, terminal
from tests.helpers.zenml_homes import zenml_server
from tests.integration.conftest import ROOT, TINY, figures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGE = "localhost/visionops-pipeline:latest"
ASK = "from stacks.same_code import code_digest; print(code_digest())"
AT_WORK = r"\w+: (runs|done in)"
STEPS = ["ingest", "validate-data", "prepare", "convert", "train", "evaluate", "register", "gate", "release-model"]
BESIDE = "recall-split-history"
"""Step that waits for no other and runs in parallel with the first two."""


@pytest.fixture
def image() -> str:
    if shutil.which("podman") is None:
        pytest.skip("needs podman")
    command = ["podman", "run", "--rm", "--pull=never", "--network=none", "--no-healthcheck", "--entrypoint=python"]
    done = subprocess.run([*command, IMAGE, "-c", ASK], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"podman has no {IMAGE}: make images")
    if done.stdout.strip() != code_digest():
        pytest.skip(f"{IMAGE} holds other code: IMAGES=pipeline make images")
    return IMAGE


@dataclasses.dataclass(frozen=True)
class Pods:
    """The stack `kubernetes` with its cluster, its node, and the variables of a client."""

    cluster: Cluster
    node: Node
    variables: dict[str, str]


@pytest.fixture
def pods(image: str, shared_servers: tuple[dict[str, str], Any], tmp_path: Path) -> Iterator[Pods]:
    variables, _ = shared_servers
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)  # containers run as another user
    with zenml_server(tmp_path) as zenml, running_cluster(tmp_path) as cluster:
        api = config.new_client_from_config(os.environ["KUBECONFIG"])
        secret = {"metadata": {"name": "s3"}, "stringData": ENVIRONMENT}
        cluster.kinds |= {"jobs", "serviceaccounts", "rolebindings"}
        client.CoreV1Api(api).create_namespaced_secret(NAMESPACE, secret)
        with account_of(api.configuration.host, tmp_path) as account, Node(cluster, api, tmp_path, account) as node:
            settings = variables | {
                "AWS_ENDPOINT_URL": variables["VISIONOPS_S3_ENDPOINT"],
                "KUBECONFIG": os.environ["KUBECONFIG"],
                "VISIONOPS_KUBERNETES_CONTEXT": "test",
                "VISIONOPS_KUBERNETES_NAMESPACE": NAMESPACE,
                "VISIONOPS_PIPELINE_IMAGE": image,
                "VISIONOPS_REGISTRY": "localhost",
                "VISIONOPS_S3_SECRET": "s3",
                "VISIONOPS_SERVING_IMAGE": "localhost/visionops-serving:latest",
                "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
                "ZENML_STORE_URL": zenml,
            }
            yield Pods(cluster, node, settings)


def test_each_step_is_a_pod_and_the_figures_are_those_of_one_machine(machine, pods, shared_servers, tmp_path):
    _, store = shared_servers
    mine = [f"--set={setting}" for setting in [*TINY, "name=belt", "data.source.images=44"]]
    local = machine.train("name=belt", "data.source.images=44")
    summary = tmp_path / "summary.json"
    done = machine.run("--stack", "kubernetes", "--summary", str(summary), *mine, env=pods.variables)
    assert not pods.node.failed, "\n".join(pods.node.logs[pod].read_text()[-3000:] for pod in pods.node.failed)
    assert done.returncode == 0, done.stderr[-3000:]
    names = pods.cluster.names()
    on_pods = json.loads(summary.read_text())
    ran = list(pods.node.logs)[1:]
    beside = [pod for pod in ran if f"-{BESIDE}-" in pod]
    assert len(beside) == 1
    assert [pod for step in STEPS for pod in ran if f"-{step}-" in pod] == [pod for pod in ran if pod not in beside]
    assert figures(on_pods) == figures(local)
    assert {"deployments/visionops-belt", "services/visionops-belt", "secrets/visionops-belt-keys"} <= names
    assert "port-forward service/visionops-belt 8000 &\n" in done.stdout
    kept = {item["Key"].split("/")[0] for item in store.list_objects_v2(Bucket="visionops")["Contents"]}
    assert kept == {"artifacts", "bundles", "mlflow"}


@pytest.mark.skipif(not os.environ.get("VISIONOPS_WHOLE"), reason="takes minutes: make pods")
def test_two_people_at_their_terminals_leave_attach_to_and_stop_a_run(pods, tmp_path):
    def person(name: str) -> dict[str, str]:
        """Return the environment of a person at a separate machine who shares the servers."""
        own = {"VISIONOPS_HOME": str(tmp_path / name / "home"), "ZENML_CONFIG_PATH": str(tmp_path / name / "zenml")}
        return {**os.environ, **pods.variables, **own, "PYTHONWARNINGS": "ignore"}

    def call(who: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=ROOT, env=who, capture_output=True, text=True, timeout=600, check=False)

    train = ["run.py", "--stack", "kubernetes", *(f"--set={setting}" for setting in [*TINY, "name=lane"])]
    anna, ben = person("anna"), person("ben")

    with terminal([sys.executable, *train], ROOT, anna) as first:
        first.expect(AT_WORK)
        first.press(CTRL_C)
        run = first.expect(r"stop run (\S+) in the cluster as well\? \[y/N\] ")[1]
        first.press(ENTER)
        stops = f"visionops stop {run} --stack kubernetes"
        first.expect(re.escape(f"run {run} continues; the same command attaches to it; stop it with: {stops}"))
        assert first.end() == 130
        assert first.text.count("[y/N]") == 1

    busy = call(ben, *train, "--set=training.epochs=3")
    assert busy.returncode == 2
    assert f"error: lane: busy on stack 'kubernetes' with run {run}, started" in busy.stderr
    assert busy.stderr.endswith(f"stop it: {stops}\n")

    with terminal([sys.executable, *train], ROOT, ben) as same:
        same.expect(re.escape(f"attached to run {run}, started"))
        same.press(CTRL_C)
        same.expect(re.escape(f"stop run {run} in the cluster as well? [y/N] "))
        same.press(f"y{ENTER}")
        same.expect(re.escape(f"run {run}: stopped"))
        assert same.end() == 130
    again = call(ben, "-m", "launch.cli", "stop", run, "--stack", "kubernetes")
    assert (again.returncode, again.stderr) == (2, f"error: run {run}: has already ended, as stopped\n")
    # The pod that starts the steps ends by itself, and its Job is removed after its time to live.
    jobs = [name for name in pods.cluster.names() if name.startswith("jobs/")]
    assert not [name for name in jobs if any(f"-{step}-" in name for step in [*STEPS, BESIDE])]

    with terminal([sys.executable, *train], ROOT, anna) as third:
        third.expect(AT_WORK)
        named = re.search(r"with run (\S+), started", call(ben, *train, "--no-cache").stderr)
        assert named
        assert named[1] != run
        stopped = call(ben, "-m", "launch.cli", "stop", named[1], "--stack", "kubernetes")
        assert (stopped.returncode, stopped.stdout) == (0, f"run {named[1]}: stopped\n")
        third.expect(re.escape(f"error: run {named[1]}: was stopped; run the same command to start it again"))
        assert third.end() == 2
    assert pods.node.failed == []
