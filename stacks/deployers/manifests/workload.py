"""Build the Deployment of an endpoint."""

from __future__ import annotations

import math

from stacks.deployers.manifests.identity import (
    Manifest,
    PodModel,
    identity,
    object_metadata,
    pod_metadata,
    selector,
)
from stacks.deployers.manifests.pod import pod_spec
from stacks.deployers.manifests.settings import KubernetesDeployerConfig

__all__ = ["deployment"]


def deployment(served: PodModel, config: KubernetesDeployerConfig) -> Manifest:
    """Return a Deployment that replaces pods without downtime: old pods stop when as many new ones are ready."""
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
