"""The Deployment of an endpoint, and how it scales."""

from __future__ import annotations

import math

from stacks.deployers.manifests.identity import (
    Manifest,
    Served,
    identity,
    object_metadata,
    object_name,
    pod_metadata,
    selector,
)
from stacks.deployers.manifests.pod import pod_spec
from stacks.deployers.manifests.settings import KubernetesDeployerConfig

__all__ = ["deployment", "scaling"]


def deployment(served: Served, config: KubernetesDeployerConfig) -> Manifest:
    """Pods that replace each other without a gap: the old ones go when as many new ones are ready."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": object_metadata(served.name, config, identity(served)),
        "spec": {
            "replicas": config.autoscaling.min_replicas if config.autoscaling else config.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": math.ceil(config.timeout),
            "selector": {"matchLabels": selector(served.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": pod_metadata(served), "spec": pod_spec(served, config)},
        },
    }


def scaling(name: str, config: KubernetesDeployerConfig) -> list[Manifest]:
    """Of the endpoint's Deployment: PodDisruptionBudget, and HorizontalPodAutoscaler where one is configured."""
    objects: list[Manifest] = [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": object_metadata(name, config),
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
                "metadata": object_metadata(name, config),
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": object_name(name)},
                    "minReplicas": config.autoscaling.min_replicas,
                    "maxReplicas": config.autoscaling.max_replicas,
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
                },
            }
        )
    return objects
