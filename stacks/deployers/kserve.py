"""ZenML model-deployer flavor ``visionops_kserve``: the served model is an InferenceService of KServe.

Our own image is its predictor; the routes of the Open Inference Protocol under /v2 are the ones KServe's clients know.
KServe makes a plain Deployment of it, without Knative, which would refuse the volumes and the init container.
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
    """Its predictor is our pod; KServe demands the container's name."""
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
    """What KServe makes KEDA's triggers of."""
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
    """The pods of one model name, made by KServe's operator."""

    KIND: ClassVar[str] = "InferenceService"
    SCALES_TO_ZERO: ClassVar[bool] = True

    def pods(self) -> dict[str, str]:
        """Labels that select its pods."""
        return {"serving.kserve.io/inferenceservice": self.object}

    def workload(self, served: PodModel, before: Manifest | None) -> Manifest:  # noqa: ARG002 - its own autoscaler counts
        """What makes the pods."""
        return inference_service(served, self.config)

    def pod_spec(self, live: Manifest) -> Manifest:
        """Of the pods that it makes."""
        spec: Manifest = live["spec"]["predictor"]
        return spec

    def replicas(self, live: Manifest) -> int:
        """How many pods it is told to have, at least; of one that has none while there is nothing to do, one."""
        stopped = live["metadata"].get("annotations", {}).get(_STOP) == "true"
        return 0 if stopped else max(1, int(live["spec"]["predictor"].get("minReplicas", 1)))

    def scale(self, live: Manifest, replicas: int) -> Manifest:
        """``live`` stopped, or not: the number itself stays as it was deployed."""
        live["metadata"].setdefault("annotations", {})[_STOP] = "false" if replicas else "true"
        return live

    def is_available(self, live: Manifest) -> bool:
        """Whether a pod answers."""
        return any(holds(condition, "Ready") for condition in live.get("status", {}).get("conditions", ()))

    def failure(self, status: Mapping[str, Any]) -> str:
        """What the operator says that will not mend itself."""
        model = status.get("modelStatus", {})
        if model.get("transitionStatus") != "InvalidSpec":
            return ""
        return f"KServe refuses it ({model.get('lastFailureInfo', {}).get('message') or 'it does not say why'})"


class KServeService(ClusterService):
    """That of an InferenceService."""

    SERVICE_TYPE = ServiceType(
        name=_FLAVOR, type="model-serving", flavor=_FLAVOR, description="VisionOps server as an InferenceService"
    )
    ENDPOINT: ClassVar[type[ClusterEndpoint]] = KServeEndpoint


class KServeModelDeployer(ClusterModelDeployer):
    """Serves bundles as InferenceServices."""

    NAME: ClassVar[str] = "VisionOps KServe"
    SERVICE = KServeService


class KServeModelDeployerFlavor(DeployerFlavor):
    """Registers `KServeModelDeployer` with ZenML."""

    NAME = _FLAVOR
    CONFIG = KubernetesModelDeployerConfig
    DEPLOYER = KServeModelDeployer


KServeModelDeployer.FLAVOR = KServeModelDeployerFlavor
