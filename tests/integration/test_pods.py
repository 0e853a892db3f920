"""Training on the stack `kubernetes`: each step a container of our image, as its pod would be; figures as on `local`.

The API server is kmock and podman is the node (`tests.helpers.node`); ZenML's server, MLflow on PostgreSQL and the S3
store are real. Needs the image of this very code: make images, then make pods.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from kubernetes import client, config

from stacks.same_code import code_digest
from tests.helpers.cluster import NAMESPACE, running_cluster
from tests.helpers.node import Node, account_of
from tests.helpers.s3 import ENVIRONMENT
from tests.helpers.zenml_homes import zenml_server
from tests.integration.conftest import TINY, figures

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

IMAGE = "localhost/visionops-pipeline:latest"
ASK = "from stacks.same_code import code_digest; print(code_digest())"
STEPS = ["ingest", "validate-data", "prepare", "train", "evaluate", "register", "gate", "release-model"]
BESIDE = "recall-split-history"
"""The step that waits for none, and so runs beside the first two."""


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


def test_each_step_is_a_pod_and_the_figures_are_those_of_one_machine(machine, image, shared_servers, tmp_path):
    variables, store = shared_servers
    mine = [f"--set={setting}" for setting in [*TINY, "name=belt", "data.source.images=44"]]
    local = machine.train("name=belt", "data.source.images=44")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)  # containers run as somebody else
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
            summary = tmp_path / "summary.json"
            done = machine.run("--stack", "kubernetes", "--summary", str(summary), *mine, env=settings)
        assert not node.failed, "\n".join(node.logs[pod].read_text()[-3000:] for pod in node.failed)
        assert done.returncode == 0, done.stderr[-3000:]
        names = cluster.names()
    on_pods = json.loads(summary.read_text())
    ran = list(node.logs)[1:]
    beside = [pod for pod in ran if f"-{BESIDE}-" in pod]
    assert len(beside) == 1
    assert [pod for step in STEPS for pod in ran if f"-{step}-" in pod] == [pod for pod in ran if pod not in beside]
    assert figures(on_pods) == figures(local)
    assert {"deployments/visionops-belt", "services/visionops-belt", "secrets/visionops-belt-keys"} <= names
    assert "port-forward service/visionops-belt 8000 &\n" in done.stdout
    kept = {item["Key"].split("/")[0] for item in store.list_objects_v2(Bucket="visionops")["Contents"]}
    assert kept == {"artifacts", "bundles", "mlflow"}
