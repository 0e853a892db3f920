"""Run the pod of the manifests on this machine as a kubelet would, with its commands, variables and probes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from stacks.deployers.manifests.identity import PodModel
from stacks.deployers.manifests.keys import secret
from stacks.deployers.manifests.pod import pod_spec
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from tests.conftest import ROOT
from tests.helpers.programs import free_port, until
from tests.helpers.s3 import ENVIRONMENT, s3_bucket, s3_server
from visionops.bundle_store import send_bundle, send_images
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import ServingConfig


@pytest.fixture
def store() -> Iterator[tuple[str, str]]:
    """Return the URI of an empty prefix, and the address of its server."""
    with s3_server() as address, s3_bucket(address, "models") as uri:
        yield f"{uri}/bundles", address


def command(container: dict[str, Any], folder: Path, port: int) -> list[str]:
    """Return the container's command, with folders and a port of this machine."""
    volumes = {mount["mountPath"]: folder / mount["name"] for mount in container["volumeMounts"]}

    def here(part: str) -> str:
        flag, equals, value = part.rpartition("=")
        for path, volume in volumes.items():
            volume.mkdir(exist_ok=True)
            if value == path or value.startswith(f"{path}/"):
                return f"{flag}{equals}{volume}{value.removeprefix(path)}"
        return part

    parts = [here(part) for part in (*container["command"][1:], *container.get("args", ()))]
    moved = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=8000": f"--port={port}"}
    return [sys.executable, *(moved.get(part, part) for part in parts)]


def environment(container: dict[str, Any], secrets: dict[str, dict[str, str]]) -> dict[str, str]:
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for source in container.get("envFrom", ()):
        known |= secrets[source["secretRef"]["name"]]
    for variable in container["env"]:
        if "value" in variable:
            known[variable["name"]] = variable["value"]
        else:
            key = variable["valueFrom"]["secretKeyRef"]
            known[variable["name"]] = secrets[key["name"]][key["key"]]
    return known


@contextmanager
def pod(spec: dict[str, Any], secrets: dict[str, dict[str, str]], folder: Path) -> Iterator[str]:
    """Run a pod and return the address of its server; the caller waits for readiness."""
    port = free_port()
    for container in spec["initContainers"]:
        subprocess.run(
            command(container, folder, port), cwd=folder, env=environment(container, secrets), check=True, timeout=180
        )
    (container,) = spec["containers"]
    process = subprocess.Popen(command(container, folder, port), cwd=folder, env=environment(container, secrets))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert -process.wait(60) in {0, signal.SIGTERM}


def test_the_pod_fetches_its_bundle_and_answers_who_has_a_key(store, bundles, red_cell, tmp_path):
    uri, address = store
    bundle = ModelBundle.load(bundles[0])
    config = KubernetesDeployerConfig(
        namespace="vision", image="x", bundle_store=uri, bundle_store_endpoint=address, bundle_store_secret="s3"
    )
    served = PodModel(
        uri=send_bundle(bundle, uri),
        digest=bundle.digest,
        name="cells",
        version="7",
        alias="champion",
        serving=ServingConfig(prediction_log_store=f"{uri}/log"),
        smoke_images=tuple(send_images([red_cell], uri)),
    )
    secrets = {"s3": ENVIRONMENT, "visionops-cells-keys": secret("cells", config, "admin", "client")["stringData"]}
    spec = pod_spec(served, config)
    probe = spec["containers"][0]["readinessProbe"]["httpGet"]["path"]
    with pod(spec, secrets, tmp_path) as url, requests.Session() as session:
        session.trust_env = False

        def is_ready() -> bool:
            try:
                return session.get(url + probe, timeout=60).ok
            except requests.RequestException:
                return False

        until(is_ready)
        answer = session.post(
            f"{url}/predict", files={"file": red_cell}, headers={"X-API-Key": "client"}, timeout=60
        ).json()
        assert answer["model"] == {"name": "cells", "version": "7", "alias": "champion"}
        assert answer["detections"][0]["class_name"] == "red"
        assert session.post(f"{url}/predict", files={"file": red_cell}, timeout=60).status_code == 401
        assert session.get(f"{url}/model", headers={"X-API-Key": "admin"}, timeout=60).json()["version"] == "7"
        assert session.post(f"{url}/unload", json={}, headers={"X-API-Key": "client"}, timeout=60).status_code == 403
        assert session.get(f"{url}/metrics", timeout=60).ok
