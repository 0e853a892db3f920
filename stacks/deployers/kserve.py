"""Define ZenML model-deployer flavor ``visionops_kserve``, which serves a model as an InferenceService of KServe.

Our own image is its predictor; KServe's clients use its Open Inference Protocol routes under /v2. KServe creates a
plain Deployment for it, without Knative, which would refuse the volumes and the init container.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from zenml.models.v2.misc.service import ServiceType

from stacks.deployers.base import DeployerFlavor
from stacks.deployers.kubernetes import ClusterModelDeployer, ClusterService, KubernetesModelDeployerConfig
from stacks.deployers.manifests.identity import Manifest, PodModel, identity, labels, object_name, pod_metadata
from stacks.deployers.manifests.pod import pod_spec
from stacks.deployers.manifests.scaling import prometheus_queries
from stacks.deployers.manifests.settings import Autoscaling, KedaScaling, KubernetesDeployerConfig
from stacks.deployers.operated import OperatedEndpoint
from stacks.deployers.rollout import ClusterEndpoint, holds

__all__ = ["KServeEndpoint", "KServeModelDeployer", "KServeModelDeployerFlavor", "KServeService", "inference_service"]

_FLAVOR = "visionops_kserve"
_CONTAINER = "kserve-container"
_STOP = "serving.kserve.io/stop"


def inference_service(served: PodModel, config: KubernetesDeployerConfig) -> Manifest:
    """Return an InferenceService with our pod as predictor; KServe requires the container's name."""
    least = config.autoscaling.min_replicas if config.autoscaling else config.replicas
    predictor: Manifest = {
        "minReplicas": least,
        "maxReplicas": config.autoscaling.max_replicas if config.autoscaling else least,
        **pod_metadata(served),
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        **pod_spec(served, config, _CONTAINER),
    }
    annotations = {**identity(served), "serving.kserve.io/deploymentMode": "RawDeployment", _STOP: "false"}
    if config.autoscaling and config.autoscaling.keda:
        annotations["serving.kserve.io/autoscalerClass"] = "keda"
        predictor["autoScaling"] = {"metrics": _metrics(served.name, config.autoscaling, config.autoscaling.keda)}
    elif config.autoscaling:
        predictor |= {"scaleMetric": "cpu", "scaleTarget": config.autoscaling.cpu_percent}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": object_name(served.name),
            "namespace": config.namespace,
            "labels": labels(served.name),
            "annotations": annotations,
        },
        "spec": {"predictor": predictor},
    }


def _metrics(name: str, limits: Autoscaling, keda: KedaScaling) -> list[Manifest]:
    """Return the metrics from which KServe creates KEDA's triggers."""
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": limits.cpu_percent}}
    metrics: list[Manifest] = [{"type": "Resource", "resource": cpu}]
    for query, threshold in prometheus_queries(f"{object_name(name)}-predictor", keda).values():
        external: Manifest = {
            "metric": {"backend": "prometheus", "serverAddress": keda.prometheus, "query": query},
            "target": {"type": "Value", "value": f"{threshold:g}"},
        }
        if keda.authentication:
            external["authenticationRef"] = {"authenticationRef": {"name": keda.authentication}}
        metrics.append({"type": "External", "external": external})
    return metrics


class KServeEndpoint(OperatedEndpoint):
    """Pods of one model name, created by KServe's operator."""

    KIND: ClassVar[str] = "InferenceService"
    SCALES_TO_ZERO: ClassVar[bool] = True

    def pods(self) -> dict[str, str]:
        """Return the labels that select the endpoint's pods."""
        return {"serving.kserve.io/inferenceservice": self.object}

    def workload(self, served: PodModel, before: Manifest | None) -> Manifest:  # noqa: ARG002 - its own autoscaler counts
        """Return the manifest of the InferenceService."""
        return inference_service(served, self.config)

    def pod_spec(self, live: Manifest) -> Manifest:
        """Return the pod spec in a live manifest."""
        spec: Manifest = live["spec"]["predictor"]
        return spec

    def replicas(self, live: Manifest) -> int:
        """Return the configured minimum number of pods; 1 for an endpoint that scales to zero when idle."""
        stopped = live["metadata"].get("annotations", {}).get(_STOP) == "true"
        return 0 if stopped else max(1, int(live["spec"]["predictor"].get("minReplicas", 1)))

    def scale(self, live: Manifest, replicas: int) -> Manifest:
        """Return ``live`` marked as stopped or running; the number of pods stays as deployed."""
        live["metadata"].setdefault("annotations", {})[_STOP] = "false" if replicas else "true"
        return live

    def is_available(self, live: Manifest) -> bool:
        """Return whether a pod answers."""
        return any(holds(condition, "Ready") for condition in live.get("status", {}).get("conditions", ()))

    def failure(self, status: Mapping[str, Any]) -> str:
        """Return the operator's report of a permanent failure, or ""."""
        model = status.get("modelStatus", {})
        if model.get("transitionStatus") != "InvalidSpec":
            return ""
        return f"KServe refuses it ({model.get('lastFailureInfo', {}).get('message') or 'no reason given'})"


class KServeService(ClusterService):
    """Record of an InferenceService."""

    SERVICE_TYPE = ServiceType(
        name=_FLAVOR, type="model-serving", flavor=_FLAVOR, description="VisionOps server as an InferenceService"
    )
    ENDPOINT: ClassVar[type[ClusterEndpoint]] = KServeEndpoint


class KServeModelDeployer(ClusterModelDeployer):
    """Deployer that serves bundles as InferenceServices."""

    NAME: ClassVar[str] = "VisionOps KServe"
    SERVICE = KServeService


class KServeModelDeployerFlavor(DeployerFlavor):
    """Registers `KServeModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = KubernetesModelDeployerConfig
    DEPLOYER = KServeModelDeployer


KServeModelDeployer.FLAVOR = KServeModelDeployerFlavor
