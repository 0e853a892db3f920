"""Define ZenML model-deployer flavor ``visionops_seldon``, which serves a model as a SeldonDeployment of Seldon Core 1.

Our own image is its container, without Seldon's orchestrator in front of it, so /predict and the OIP routes answer as
on every deployer. Seldon Core is under the Business Source License since 1.18: free for development and tests, paid
for production. No other deployer needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from zenml.models.v2.misc.service import ServiceType

from stacks.deployers.base import DeployerFlavor
from stacks.deployers.kubernetes import ClusterModelDeployer, ClusterService, KubernetesModelDeployerConfig
from stacks.deployers.manifests.identity import Manifest, PodModel, identity, labels, object_name, pod_metadata
from stacks.deployers.manifests.pod import pod_spec
from stacks.deployers.manifests.settings import KubernetesDeployerConfig
from stacks.deployers.operated import OperatedEndpoint
from stacks.deployers.rollout import ClusterEndpoint
from visionops.errors import DeploymentError

__all__ = ["SeldonEndpoint", "SeldonModelDeployer", "SeldonModelDeployerFlavor", "SeldonService", "seldon_deployment"]

_FLAVOR = "visionops_seldon"
_SERVER = "server"


def seldon_deployment(served: PodModel, config: KubernetesDeployerConfig) -> Manifest:
    """Return a SeldonDeployment whose only predictor has our server as its only model."""
    pod = pod_spec(served, config, _SERVER)
    # Seldon's copy of the pod schema is older than `sleep`: the API would drop it and leave an empty hook, which is
    # invalid in a Deployment.
    hooks = pod["containers"][0]["lifecycle"]
    hooks["preStop"] = {"exec": {"command": ["sleep", str(hooks["preStop"]["sleep"]["seconds"])]}}
    component: Manifest = {"metadata": pod_metadata(served), "spec": pod}
    if config.autoscaling:
        cpu = {"type": "Utilization", "averageUtilization": config.autoscaling.cpu_percent}
        component["hpaSpec"] = {
            "minReplicas": config.autoscaling.min_replicas,
            "maxReplicas": config.autoscaling.max_replicas,
            "metricsv2": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
        }
    replicas = config.autoscaling.min_replicas if config.autoscaling else config.replicas
    return {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {
            "name": object_name(served.name),
            "namespace": config.namespace,
            "labels": labels(served.name),
            "annotations": identity(served),
        },
        "spec": {
            "name": object_name(served.name),
            "predictors": [
                {
                    "name": "default",
                    "replicas": replicas,
                    "traffic": 100,
                    "annotations": {"seldon.io/no-engine": "true"},
                    "graph": {"name": _SERVER, "type": "MODEL", "endpoint": {"type": "REST"}, "children": []},
                    "componentSpecs": [component],
                }
            ],
        },
    }


class SeldonEndpoint(OperatedEndpoint):
    """Pods of one model name, created by Seldon's operator."""

    KIND: ClassVar[str] = "SeldonDeployment"

    def pods(self) -> dict[str, str]:
        """Return the labels that select the endpoint's pods."""
        return {"seldon-deployment-id": self.object}

    def workload(self, served: PodModel, before: Manifest | None) -> Manifest:
        """Return the manifest of the SeldonDeployment."""
        if self.config.autoscaling and self.config.autoscaling.keda:
            raise DeploymentError("autoscaling.keda: not supported by visionops_seldon, which scales by CPU; remove it")
        manifest = seldon_deployment(served, self.config)
        if before and self.config.autoscaling:
            predictor = manifest["spec"]["predictors"][0]
            predictor["replicas"] = max(predictor["replicas"], self.replicas(before))
        return manifest

    def pod_spec(self, live: Manifest) -> Manifest:
        """Return the pod spec in a live manifest."""
        spec: Manifest = live["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
        return spec

    def replicas(self, live: Manifest) -> int:
        """Return the configured number of pods."""
        return int(live["spec"]["predictors"][0].get("replicas", 1))

    def scale(self, live: Manifest, replicas: int) -> Manifest:
        """Return ``live`` with another number of pods."""
        live["spec"]["predictors"][0]["replicas"] = replicas
        return live

    def is_available(self, live: Manifest) -> bool:
        """Return whether a pod answers."""
        return bool(live.get("status", {}).get("state") == "Available")

    def failure(self, status: Mapping[str, Any]) -> str:
        """Return the operator's report of a permanent failure, or ""."""
        if status.get("state") != "Failed":
            return ""
        return f"Seldon refuses it ({status.get('description') or 'no reason given'})"


class SeldonService(ClusterService):
    """Record of a SeldonDeployment."""

    SERVICE_TYPE = ServiceType(
        name=_FLAVOR, type="model-serving", flavor=_FLAVOR, description="VisionOps server as a SeldonDeployment"
    )
    ENDPOINT: ClassVar[type[ClusterEndpoint]] = SeldonEndpoint


class SeldonModelDeployer(ClusterModelDeployer):
    """Deployer that serves bundles as SeldonDeployments."""

    NAME: ClassVar[str] = "VisionOps Seldon"
    SERVICE = SeldonService


class SeldonModelDeployerFlavor(DeployerFlavor):
    """Registers `SeldonModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = KubernetesModelDeployerConfig
    DEPLOYER = SeldonModelDeployer


SeldonModelDeployer.FLAVOR = SeldonModelDeployerFlavor
