"""Build the names, labels and annotations that link an object to its endpoint and model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from visionops.inference.settings import ServingConfig

__all__ = [
    "MANAGED_BY",
    "PORT",
    "Manifest",
    "PodCandidate",
    "PodModel",
    "endpoint_url",
    "identity",
    "labels",
    "log_store",
    "object_metadata",
    "object_name",
    "pod_metadata",
    "selector",
]

Manifest = dict[str, Any]

PORT = 8000
MANAGED_BY = "app.kubernetes.io/managed-by"

_LONGEST_NAME = 50


class PodCandidate(BaseModel):
    """Model that pods try next to the champion, as canary or shadow."""

    model_config = ConfigDict(frozen=True)

    uri: str
    digest: str
    version: str


class PodModel(BaseModel):
    """Model that pods serve, with its settings."""

    model_config = ConfigDict(frozen=True)

    uri: str
    digest: str
    name: str
    version: str
    alias: str
    serving: ServingConfig
    smoke_images: tuple[str, ...] = ()
    """URIs of images that a pod must answer before it is ready."""
    candidate: PodCandidate | None = None


def object_name(name: str) -> str:
    """Return the name of an endpoint's objects: a DNS label that starts with a letter and is unique for ``name``."""
    readable = f"visionops-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"
    if readable == f"visionops-{name}" and len(readable) <= _LONGEST_NAME:
        return readable
    return f"{readable[: _LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def selector(name: str) -> dict[str, str]:
    """Return the labels that select exactly the pods of an endpoint."""
    return {"app.kubernetes.io/name": "visionops-serving", "app.kubernetes.io/instance": object_name(name)}


def labels(name: str) -> dict[str, str]:
    """Return the labels of all objects of an endpoint."""
    return {
        **selector(name),
        "app.kubernetes.io/component": "model-endpoint",
        "app.kubernetes.io/part-of": "visionops",
        MANAGED_BY: "visionops",
    }


def identity(served: PodModel) -> dict[str, str]:
    """Return annotations that name the model; labels do not allow every version."""
    return {
        "visionops/model": served.name,
        "visionops/version": served.version,
        "visionops/alias": served.alias,
        "visionops/digest": served.digest,
        **({"visionops/candidate": served.candidate.version} if served.candidate else {}),
    }


def endpoint_url(name: str, config: KubernetesDeployerConfig) -> str:
    """Return the URL of an endpoint."""
    if config.ingress:
        return f"{'https' if config.ingress.tls_secret else 'http'}://{config.ingress.host}"
    return config.service_url.format(service=object_name(name), namespace=config.namespace, name=name).rstrip("/")


def pod_metadata(served: PodModel) -> Manifest:
    """Return the labels and annotations of a pod."""
    return {
        "labels": labels(served.name),
        "annotations": identity(served)
        | {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"},
    }


def object_metadata(
    name: str, config: KubernetesDeployerConfig, annotations: Mapping[str, str] | None = None
) -> Manifest:
    """Return the name, namespace and labels of an object of the endpoint ``name``."""
    metadata: Manifest = {"name": object_name(name), "namespace": config.namespace, "labels": labels(name)}
    return metadata | ({"annotations": dict(annotations)} if annotations else {})


def log_store(served: PodModel) -> str:
    """Return the store of the prediction log; "" disables the log, which would otherwise be lost with the pod."""
    return (served.serving.prediction_log and served.serving.prediction_log_store) or ""
