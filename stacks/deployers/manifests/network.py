"""Build the Service, Ingress and NetworkPolicy of an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from stacks.deployers.manifests.identity import PORT, Manifest, PodModel, log_store, object_metadata, object_name
from stacks.deployers.manifests.settings import IngressConfig, KubernetesDeployerConfig

__all__ = ["supporting"]

_HTTPS = 443
_POSTGRESQL = 5432


def supporting(served: PodModel, config: KubernetesDeployerConfig, pods: Mapping[str, str]) -> list[Manifest]:
    """Return the Service, the NetworkPolicy and, if configured, the Ingress of an endpoint.

    Args:
        pods: Labels that select the endpoint's pods.
    """
    name, chosen = served.name, {"matchLabels": dict(pods)}
    objects: list[Manifest] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": object_metadata(name, config),
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


def _network_policy(served: PodModel, config: KubernetesDeployerConfig, chosen: Manifest) -> Manifest:
    others = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(config.allowed_namespaces)}
    sources: list[Manifest] = [{"podSelector": {}}]
    if config.allowed_namespaces:
        sources.append({"namespaceSelector": {"matchExpressions": [others]}})
    ports = {_port(config.bundle_store_endpoint) or _HTTPS, *config.egress_ports}
    if store := log_store(served):
        ports.add(_port(store) or (_POSTGRESQL if store.startswith("postgres") else _HTTPS))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": object_metadata(served.name, config),
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
    # nginx refuses bodies above 1 MB by default.
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
        "metadata": object_metadata(name, config, annotations),
        "spec": spec,
    }
