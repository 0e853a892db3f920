"""Components for the doctor to check, and access to its findings."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.doctor.findings import CheckResult, Examined, State
from stacks.spec import ComponentSpec, ComponentType, StackSpec

MLFLOW = version("mlflow")
BASIC = "Basic " + base64.b64encode(b"me:mine").decode()


def examined(kind: str, flavor: str, orchestrator: str = "local", **configuration: Any) -> Examined:
    component = ComponentSpec(name="x", flavor=flavor, configuration=configuration)
    components = {
        ComponentType.ORCHESTRATOR: ComponentSpec(name="x", flavor=orchestrator),
        ComponentType.ARTIFACT_STORE: ComponentSpec(name="x", flavor="local"),
    }
    return Examined(component, StackSpec(name="x", components=components | {ComponentType(kind): component}))


def trouble(findings: Iterator[CheckResult] | Sequence[CheckResult]) -> str:
    """Return the only problem, and its fix."""
    (found,) = [finding for finding in findings if finding.state is not State.OK]
    assert "\n" not in found.observed + found.fix
    assert found.fix
    return f"{found.state}: {found.observed}; {found.fix}"


def well(findings: Iterator[CheckResult] | Sequence[CheckResult]) -> str:
    """Return the observation where there is no problem."""
    found = list(findings)
    assert found
    assert {finding.state for finding in found} == {State.OK}
    return "; ".join(finding.observed for finding in found)


def store(address: str, key: str = "me", secret: str = "mine", path: str = "s3://vision/artifacts") -> Examined:
    own = {"client_kwargs": {"endpoint_url": address}, "path": path, "key": key, "secret": secret}
    return examined("artifact_store", "s3", **own)


def mlflow_answers(**changes: Any) -> dict[str, Any]:
    experiment = {"experiment_id": "0", "artifact_location": "mlflow-artifacts:/0"}
    return {
        "/version": MLFLOW,
        "/api/2.0/mlflow/experiments/search": {"experiments": [experiment]},
        "/api/2.0/mlflow/registered-models/search": {},
        "/api/2.0/mlflow-artifacts/artifacts": {"files": []},
    } | changes


def keep(name: str, *keys: str, kind: str = "Secret") -> None:
    """Store an object in the namespace."""
    config = KubernetesDeployerConfig(namespace="vision", image="x", bundle_store="s3://x")
    manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "data": dict.fromkeys(keys, "eA==")}
    if not Namespace(config).ensure(manifest):
        Namespace(config).update(kind, name, lambda live: live | manifest)


def deployer(flavor: str = "visionops_kubernetes", **own: Any) -> Examined:
    own = {"namespace": "vision", "image": "127.0.0.1:1/serving:1", "bundle_store": "s3://vision/bundles"} | own
    return examined("model_deployer", flavor, "kubernetes", **own)


def engine(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
