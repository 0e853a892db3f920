"""Build the objects that scale an endpoint's pods by CPU or by load."""

from __future__ import annotations

from stacks.deployers.manifests.identity import Manifest, object_metadata, object_name, selector
from stacks.deployers.manifests.settings import Autoscaling, KedaScaling, KubernetesDeployerConfig

__all__ = ["SCALERS", "prometheus_queries", "scaling"]

SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
"""Kinds of autoscaler; an endpoint has at most one, as two would compete for the same pods."""

_POD = "{object}-[a-z0-9]+-[a-z0-9]+"
"""Pattern for the names of a Deployment's pods."""


def scaling(name: str, config: KubernetesDeployerConfig) -> list[Manifest]:
    """Return the PodDisruptionBudget and, if configured, the autoscaler of an endpoint's Deployment."""
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
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": object_name(name)}
    if config.autoscaling and config.autoscaling.keda:
        objects.append(_scaled_object(name, target, config, config.autoscaling, config.autoscaling.keda))
    elif config.autoscaling:
        cpu = {"type": "Utilization", "averageUtilization": config.autoscaling.cpu_percent}
        objects.append(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": object_metadata(name, config),
                "spec": {
                    "scaleTargetRef": target,
                    "minReplicas": config.autoscaling.min_replicas,
                    "maxReplicas": config.autoscaling.max_replicas,
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": cpu}}],
                },
            }
        )
    return objects


def prometheus_queries(workload: str, keda: KedaScaling) -> dict[str, tuple[str, float]]:
    """Return the Prometheus queries by name, each as its PromQL and the amount for one pod.

    Args:
        workload: Name of the Deployment that has the pods.
    """
    pods = keda.pods.replace("{pods}", _POD.format(object=workload))
    queries = {}
    if keda.queue_depth is not None:
        queries["queue-depth"] = (f"sum(visionops_queue_depth{{{pods}}})", keda.queue_depth)
    if keda.requests_per_second is not None:
        # Probes and scrapes do not count as load.
        served = f'visionops_requests_total{{{pods},route!~"/health|/ready|/metrics"}}'
        queries["requests-per-second"] = (f"sum(rate({served}[2m]))", keda.requests_per_second)
    if keda.wake_query:
        # 1 while there is any load, which needs at least one pod; the other triggers measure how much.
        queries["wake"] = (f"clamp_max(ceil({keda.wake_query}), 1)", 1)
    return queries


def _scaled_object(
    name: str, target: Manifest, config: KubernetesDeployerConfig, limits: Autoscaling, keda: KedaScaling
) -> Manifest:
    triggers: list[Manifest] = [
        {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(limits.cpu_percent)}}
    ]
    for trigger, (query, threshold) in prometheus_queries(object_name(name), keda).items():
        one: Manifest = {
            "type": "prometheus",
            "name": trigger,
            "metricType": "AverageValue",
            # KEDA accepts only strings.
            "metadata": {"serverAddress": keda.prometheus, "query": query, "threshold": f"{threshold:g}"},
        }
        if keda.authentication:
            one["authenticationRef"] = {"name": keda.authentication}
        triggers.append(one)
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": object_metadata(name, config),
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": limits.min_replicas,
            "maxReplicaCount": limits.max_replicas,
            "pollingInterval": keda.polling_seconds,
            "cooldownPeriod": keda.cooldown_seconds,
            # No fallback: while Prometheus does not answer, the autoscaler only adds pods, by their CPU.
            "triggers": triggers,
        },
    }
