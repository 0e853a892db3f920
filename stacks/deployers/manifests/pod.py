"""Build the pod of an endpoint: a container that fetches the bundle, and the server."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stacks.deployers.manifests.arguments import CACHE, CANDIDATE, LOG, MODEL, SMOKE, server_arguments
from stacks.deployers.manifests.identity import PORT, Manifest, PodModel, log_store, object_name, selector
from stacks.deployers.manifests.keys import ADMIN_KEY, API_KEYS
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from visionops.inference.server_options import ADMIN_KEY_VARIABLE, API_KEYS_VARIABLE, SERVER_MODULE

__all__ = ["REVISION_VARIABLE", "pod_spec", "revision"]

REVISION_VARIABLE = "VISIONOPS_REVISION"
"""Variable in the server's container with the revision of its manifest; it survives every operator."""

_PROBE_SECONDS = 5
_DRAIN_SECONDS = 5
"""Seconds that a stopping pod still answers, until all nodes stop sending it requests."""
_GRACE_SECONDS = 40
_FETCH = "fetch"


def pod_spec(served: PodModel, config: KubernetesDeployerConfig, container: str = "server") -> Manifest:
    """Return the pod spec: an init container that fetches and verifies the bundle, and the server.

    Args:
        container: Name of the server's container.
    """
    volumes: list[Manifest] = [
        {"name": "models", "emptyDir": {}},
        {"name": "cache", "emptyDir": {"sizeLimit": "2Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    if log_store(served):
        volumes.append({"name": "prediction-log", "emptyDir": {"sizeLimit": "3Gi"}})
    identifiers = {} if config.run_as is None else dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), config.run_as)
    spec: Manifest = {
        "automountServiceAccountToken": False,
        # Otherwise each Service of the namespace becomes a variable, and one named visionops sets VISIONOPS_PORT.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **identifiers},
        "initContainers": [_fetcher(served, config), *_candidate_fetcher(served, config)],
        "containers": [_server(served, config, container)],
        "volumes": volumes,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(served.name)},
            }
        ],
    }
    if config.service_account:
        spec["serviceAccountName"] = config.service_account
    if config.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    if config.node_selector:
        spec["nodeSelector"] = dict(config.node_selector)
    if config.tolerations:
        spec["tolerations"] = [{k: v for k, v in t.model_dump().items() if v} for t in config.tolerations]
    mark = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
    spec["containers"][0]["env"].append({"name": REVISION_VARIABLE, "value": mark})
    return spec


def revision(spec: Mapping[str, Any]) -> str:
    """Return the revision that `pod_spec` wrote into a pod's spec; "" for other pods."""
    for container in spec.get("containers", ()):
        for variable in container.get("env", ()):
            if variable["name"] == REVISION_VARIABLE:
                return str(variable.get("value", ""))
    return ""


def _confined() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _store_variables(config: KubernetesDeployerConfig) -> list[Manifest]:
    variables = [{"name": "AWS_DEFAULT_REGION", "value": config.bundle_store_region}]
    if config.bundle_store_endpoint:
        variables.append({"name": "AWS_ENDPOINT_URL", "value": config.bundle_store_endpoint})
    return variables


def _container(name: str, config: KubernetesDeployerConfig, command: Sequence[str], mounts: Manifest) -> Manifest:
    return {
        "name": name,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": list(command),
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "TMPDIR", "value": "/tmp"}],  # noqa: S108 - its own volume
        "resources": _resources(config, is_server=name != _FETCH),
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": volume, "mountPath": path, "readOnly": volume == "models" and not name.startswith(_FETCH)}
            for volume, path in {"tmp": "/tmp", **mounts}.items()  # noqa: S108
        ],
    }


def _resources(config: KubernetesDeployerConfig, *, is_server: bool) -> Manifest:
    """Return a container's resources; only the server gets a GPU or another device (``nvidia.com/gpu``)."""
    resources: dict[str, dict[str, str]] = config.resources.model_dump()
    if is_server:
        return resources
    return {kind: {name: n for name, n in given.items() if "/" not in name} for kind, given in resources.items()}


def _fetcher(served: PodModel, config: KubernetesDeployerConfig) -> Manifest:
    command = ["python", "-m", "deploy.serving.fetch", served.uri, MODEL, "--digest", served.digest]
    if served.smoke_images:
        command += ["--smoke-images", SMOKE]
        command += [part for image in served.smoke_images for part in ("--image", image)]
    return _reads_store(_container(_FETCH, config, command, {"models": "/models"}), config)


def _candidate_fetcher(served: PodModel, config: KubernetesDeployerConfig) -> list[Manifest]:
    """Return the container that fetches a release's candidate; empty without a candidate."""
    if (candidate := served.candidate) is None:
        return []
    command = ["python", "-m", "deploy.serving.fetch", candidate.uri, CANDIDATE, "--digest", candidate.digest]
    return [_reads_store(_container(f"{_FETCH}-candidate", config, command, {"models": "/models"}), config)]


def _reads_store(container: Manifest, config: KubernetesDeployerConfig) -> Manifest:
    container["env"] += _store_variables(config)
    if config.bundle_store_secret:
        container["envFrom"] = [{"secretRef": {"name": config.bundle_store_secret}}]
    return container


def _server(served: PodModel, config: KubernetesDeployerConfig, name: str) -> Manifest:
    mounts = {"models": "/models", "cache": CACHE}
    store = log_store(served)
    if store:
        mounts["prediction-log"] = LOG
    container = _container(name, config, ["python", "-m", SERVER_MODULE], mounts)
    keys = f"{object_name(served.name)}-keys"
    container["args"] = server_arguments(served)
    container["env"] += [
        _from_secret(ADMIN_KEY_VARIABLE, keys, ADMIN_KEY),
        _from_secret(API_KEYS_VARIABLE, config.api_keys_secret or keys, API_KEYS),
    ]
    if store.startswith("s3:"):
        container["env"] += _store_variables(config)
    credentials = config.prediction_log_secret or (config.bundle_store_secret if store.startswith("s3:") else "")
    if store and credentials:
        container["envFrom"] = [{"secretRef": {"name": credentials}}]
    ready = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": _PROBE_SECONDS, "timeoutSeconds": 5}
    container |= {
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": ready | {"failureThreshold": math.ceil(config.timeout / _PROBE_SECONDS)},
        "readinessProbe": ready | {"failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS}}},
    }
    return container


def _from_secret(variable: str, name: str, key: str) -> Manifest:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
