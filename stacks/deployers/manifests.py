"""The Kubernetes objects of one endpoint, as plain dicts. Knows neither a client nor ZenML.

    Secret               the key that opens the server to its deployer, and one for its clients
    Deployment           pods that fetch the bundle by its content, verify it, answer the smoke images, then are ready
    Service, Ingress     where they answer
    HorizontalPodAutoscaler, PodDisruptionBudget, NetworkPolicy

All of them bear the endpoint's `object_name`, the Secret with ``-keys`` behind it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visionops.inference.settings import ServingConfig

__all__ = [
    "ADMIN_KEY",
    "CLIENT_KEY",
    "MANAGED_BY",
    "PORT",
    "REVISION_VARIABLE",
    "Autoscaling",
    "IngressConfig",
    "KubernetesDeployerConfig",
    "Manifest",
    "Resources",
    "Served",
    "Toleration",
    "deployment",
    "endpoint_url",
    "identity",
    "labels",
    "object_name",
    "pod_metadata",
    "pod_spec",
    "revision",
    "scaling",
    "secret",
    "selector",
    "supporting",
]

Manifest = dict[str, Any]

PORT = 8000
ADMIN_KEY = "admin-key"
"""In the Secret: opens all of the server."""
CLIENT_KEY = "client-key"
"""In the Secret: for predictions."""
REVISION_VARIABLE = "VISIONOPS_REVISION"
"""Of a pod's server: which manifest it was made of, under whatever operator made it."""
MANAGED_BY = "app.kubernetes.io/managed-by"

_API_KEYS = "api-keys"
_LONGEST_NAME = 50
_PROBE_SECONDS = 5
_DRAIN_SECONDS = 5
"""A pod that goes is still sent requests for a moment, until all nodes have heard."""
_GRACE_SECONDS = 40
_FETCH = "fetch"
_MODEL = "/models/bundle"
_SMOKE = "/models/smoke"
_CACHE = "/cache"
_LOG = "/prediction-log"
_HTTPS = 443
_POSTGRESQL = 5432


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Resources(_Frozen):
    """Of one pod. The CPU limit is what the server sizes its workers by."""

    requests: dict[str, str] = {"cpu": "1", "memory": "1Gi"}
    limits: dict[str, str] = {"cpu": "2", "memory": "2Gi"}


class Toleration(_Frozen):
    """Of a node's taint."""

    key: str
    operator: str = Field(default="Exists", pattern="^(Exists|Equal)$")
    value: str = ""
    effect: str = ""


class Autoscaling(_Frozen):
    """By the CPU that the pods use."""

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=3, ge=1)
    cpu_percent: int = Field(default=70, ge=1, le=100)
    """Of what they request."""

    @model_validator(mode="after")
    def _agree(self) -> Autoscaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class IngressConfig(_Frozen):
    """The endpoint from outside of the cluster."""

    host: str = Field(min_length=1)
    class_name: str = ""
    tls_secret: str = ""
    """Certificate of the host; without one it is plain HTTP."""
    annotations: dict[str, str] = {}


class KubernetesDeployerConfig(BaseModel):
    """Where endpoints run, and what their pods are given."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    namespace: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    """It must exist: a deployer needs no rights beyond it."""
    image: str = Field(min_length=1)
    """The serving image, with tag or digest."""
    bundle_store: str = Field(pattern=r"^s3://[^/]+")
    """Where bundles are brought and pods fetch them: s3://bucket/prefix."""
    bundle_store_endpoint: str = ""
    """Of a store that is not Amazon's, as pods reach it. Here it is AWS_ENDPOINT_URL that counts."""
    bundle_store_region: str = "us-east-1"
    bundle_store_secret: str = ""
    """A Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without one pods use their service account."""
    prediction_log_secret: str = ""
    """A Secret with what the prediction log's store asks for (PGPASSWORD); an S3 one has the bundles' otherwise."""
    api_keys_secret: str = ""
    """A Secret whose `api-keys` has the lines of python -m deploy.serving.keys; one key is made without it."""
    kubernetes_context: str = ""
    """Of the kubeconfig; its current one when empty."""
    incluster: bool = False
    """The deployer runs in a pod of the cluster, and uses its service account."""
    image_pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = ""
    run_as: int | None = Field(default=10001, ge=1)
    """User and group of the pods; null where the cluster chooses them, as OpenShift does."""
    replicas: int = Field(default=1, ge=1)
    resources: Resources = Resources()
    autoscaling: Autoscaling | None = None
    """Instead of `replicas`."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    network_policy: bool = True
    allowed_namespaces: tuple[str, ...] = ()
    """Whose pods may call the endpoint, beside those of its own: that of the ingress controller, of Prometheus."""
    egress_ports: tuple[int, ...] = ()
    """That pods may call beside DNS and the ports of their stores: a Service whose pods listen on another port."""
    ingress: IngressConfig | None = None
    service_url: str = "http://{service}.{namespace}.svc:8000"
    """How this deployer reaches an endpoint that has no ingress. It only looks whether the new model answers."""
    timeout: float = Field(default=600, gt=0)
    """Seconds for new pods to be ready."""
    poll_seconds: float = Field(default=1, gt=0)


class Served(BaseModel):
    """What pods are told to serve."""

    model_config = ConfigDict(frozen=True)

    uri: str
    digest: str
    name: str
    version: str
    alias: str
    serving: ServingConfig
    smoke_images: tuple[str, ...] = ()
    """URIs of images that a pod must answer before it is ready."""


def object_name(name: str) -> str:
    """Of an endpoint's objects: a DNS label that begins with a letter, one for each ``name``."""
    readable = f"visionops-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"
    if readable == f"visionops-{name}" and len(readable) <= _LONGEST_NAME:
        return readable
    return f"{readable[: _LONGEST_NAME - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def selector(name: str) -> dict[str, str]:
    """Labels that the pods of an endpoint have, and no others."""
    return {"app.kubernetes.io/name": "visionops-serving", "app.kubernetes.io/instance": object_name(name)}


def labels(name: str) -> dict[str, str]:
    """Of all objects of an endpoint."""
    return {
        **selector(name),
        "app.kubernetes.io/component": "model-endpoint",
        "app.kubernetes.io/part-of": "visionops",
        MANAGED_BY: "visionops",
    }


def identity(served: Served) -> dict[str, str]:
    """Annotations that say which model it is. Not labels: a version may be what a label cannot be."""
    return {
        "visionops/model": served.name,
        "visionops/version": served.version,
        "visionops/alias": served.alias,
        "visionops/digest": served.digest,
    }


def endpoint_url(name: str, config: KubernetesDeployerConfig) -> str:
    """Where an endpoint answers."""
    if config.ingress:
        return f"{'https' if config.ingress.tls_secret else 'http'}://{config.ingress.host}"
    return config.service_url.format(service=object_name(name), namespace=config.namespace, name=name).rstrip("/")


def pod_metadata(served: Served) -> Manifest:
    """Labels and annotations of a pod."""
    return {
        "labels": labels(served.name),
        "annotations": identity(served)
        | {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"},
    }


def pod_spec(served: Served, config: KubernetesDeployerConfig, container: str = "server") -> Manifest:
    """The pod: an init container that fetches and verifies the bundle, and the server.

    Args:
        container: Name of the server's.
    """
    volumes: list[Manifest] = [
        {"name": "models", "emptyDir": {}},
        {"name": "cache", "emptyDir": {"sizeLimit": "2Gi"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    ]
    if _log_store(served):
        volumes.append({"name": "prediction-log", "emptyDir": {"sizeLimit": "3Gi"}})
    identifiers = {} if config.run_as is None else dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), config.run_as)
    spec: Manifest = {
        "automountServiceAccountToken": False,
        # Else each Service of the namespace is a variable, and one named visionops would be VISIONOPS_PORT.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **identifiers},
        "initContainers": [_fetcher(served, config)],
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
    """Of a pod's spec, as `pod_spec` marked it; "" for another's."""
    for container in spec.get("containers", ()):
        for variable in container.get("env", ()):
            if variable["name"] == REVISION_VARIABLE:
                return str(variable.get("value", ""))
    return ""


def deployment(served: Served, config: KubernetesDeployerConfig) -> Manifest:
    """Pods that replace each other without a gap: the old ones go when as many new ones are ready."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(served.name, config, identity(served)),
        "spec": {
            "replicas": config.autoscaling.min_replicas if config.autoscaling else config.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": math.ceil(config.timeout),
            "selector": {"matchLabels": selector(served.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": pod_metadata(served), "spec": pod_spec(served, config)},
        },
    }


def secret(name: str, config: KubernetesDeployerConfig, admin_key: str, client_key: str) -> Manifest:
    """The keys: as they are for who may read the Secret, and the digest that the server knows its clients by."""
    line = f"clients predict sha256:{hashlib.sha256(client_key.encode()).hexdigest()}\n"
    metadata = _metadata(name, config)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata | {"name": f"{metadata['name']}-keys"},
        "type": "Opaque",
        "stringData": {ADMIN_KEY: admin_key, CLIENT_KEY: client_key, _API_KEYS: line},
    }


def supporting(served: Served, config: KubernetesDeployerConfig, pods: Mapping[str, str]) -> list[Manifest]:
    """What stands beside the pods, whoever makes them: Service, NetworkPolicy, and Ingress where one is configured.

    Args:
        pods: Labels that select the endpoint's pods.
    """
    name, chosen = served.name, {"matchLabels": dict(pods)}
    objects: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(name, config),
            "spec": {
                "type": "ClusterIP",
                "selector": dict(pods),
                "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
            },
        },
    ]
    if config.network_policy:
        objects.append(_network_policy(served, config, chosen))
    if config.ingress:
        objects.append(_ingress(name, config, config.ingress))
    return objects


def scaling(name: str, config: KubernetesDeployerConfig) -> list[Manifest]:
    """Of the endpoint's Deployment: PodDisruptionBudget, and HorizontalPodAutoscaler where one is configured."""
    objects: list[Manifest] = [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": _metadata(name, config),
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": selector(name)},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
    ]
    if config.autoscaling:
        cpu = {"type": "Utilization", "averageUtilization": config.autoscaling.cpu_percent}
        objects.append(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": _metadata(name, config),
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": object_name(name)},
                    "minReplicas": config.autoscaling.min_replicas,
                    "maxReplicas": config.autoscaling.max_replicas,
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
                },
            }
        )
    return objects


def _metadata(name: str, config: KubernetesDeployerConfig, annotations: Mapping[str, str] | None = None) -> Manifest:
    metadata: Manifest = {"name": object_name(name), "namespace": config.namespace, "labels": labels(name)}
    return metadata | ({"annotations": dict(annotations)} if annotations else {})


def _log_store(served: Served) -> str:
    """Without a store a pod keeps no prediction log: it would go with the pod, unread."""
    return (served.serving.prediction_log and served.serving.prediction_log_store) or ""


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
        "resources": config.resources.model_dump(),
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": volume, "mountPath": path, "readOnly": volume == "models" and name != _FETCH}
            for volume, path in {"tmp": "/tmp", **mounts}.items()  # noqa: S108
        ],
    }


def _fetcher(served: Served, config: KubernetesDeployerConfig) -> Manifest:
    command = ["python", "-m", "deploy.serving.fetch", served.uri, _MODEL, "--digest", served.digest]
    if served.smoke_images:
        command += ["--smoke-images", _SMOKE]
        command += [part for image in served.smoke_images for part in ("--image", image)]
    container = _container(_FETCH, config, command, {"models": "/models"})
    container["env"] += _store_variables(config)
    if config.bundle_store_secret:
        container["envFrom"] = [{"secretRef": {"name": config.bundle_store_secret}}]
    return container


def _server(served: Served, config: KubernetesDeployerConfig, name: str) -> Manifest:
    told: dict[str, Any] = {
        "bundle": _MODEL,
        "name": served.name,
        "version": served.version,
        "alias": served.alias,
        **served.serving.model_dump(mode="json", include={"engine", "confidence", "iou", "max_upload_bytes"}),
        "host": "0.0.0.0",  # noqa: S104 - of the pod
        "port": PORT,
        "cache": _CACHE,
        "open_metrics": "true",
        "open_ready": "true",
    }
    mounts = {"models": "/models", "cache": _CACHE}
    if served.smoke_images:
        told["smoke_images"] = _SMOKE
    store = _log_store(served)
    if store:
        mounts["prediction-log"] = _LOG
        told |= {
            "prediction_log": _LOG,
            "prediction_log_store": store,
            "prediction_log_images": served.serving.prediction_log_images,
        }
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in told.items() if value not in (None, "")]
    container = _container(name, config, ["python", "-m", "deploy.serving"], mounts)
    keys = f"{object_name(served.name)}-keys"
    container["args"] = arguments
    container["env"] += [
        _from_secret("VISIONOPS_ADMIN_KEY", keys, ADMIN_KEY),
        _from_secret("VISIONOPS_API_KEYS", config.api_keys_secret or keys, _API_KEYS),
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


def _network_policy(served: Served, config: KubernetesDeployerConfig, chosen: Manifest) -> Manifest:
    others = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(config.allowed_namespaces)}
    sources: list[Manifest] = [{"podSelector": {}}]
    if config.allowed_namespaces:
        sources.append({"namespaceSelector": {"matchExpressions": [others]}})
    ports = {_port(config.bundle_store_endpoint) or _HTTPS, *config.egress_ports}
    if store := _log_store(served):
        ports.add(_port(store) or (_POSTGRESQL if store.startswith("postgres") else _HTTPS))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(served.name, config),
        "spec": {
            "podSelector": chosen,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": sources, "ports": [{"port": PORT, "protocol": "TCP"}]}],
            "egress": [
                {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
                {"ports": [{"port": port, "protocol": "TCP"} for port in sorted(ports)]},
            ],
        },
    }


def _port(address: str) -> int | None:
    parts = urlsplit(address)
    return parts.port or {"http": 80}.get(parts.scheme)


def _ingress(name: str, config: KubernetesDeployerConfig, ingress: IngressConfig) -> Manifest:
    # nginx refuses what is above 1 MB unless it is told.
    annotations = {"nginx.ingress.kubernetes.io/proxy-body-size": "100m", **ingress.annotations}
    backend = {"service": {"name": object_name(name), "port": {"number": PORT}}}
    spec: Manifest = {
        "rules": [{"host": ingress.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }
    if ingress.class_name:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret:
        spec["tls"] = [{"hosts": [ingress.host], "secretName": ingress.tls_secret}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(name, config, annotations),
        "spec": spec,
    }
