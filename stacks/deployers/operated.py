"""Manage prediction servers in pods that an operator creates from a custom resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from stacks.deployers.manifests.identity import Manifest, PodModel
from stacks.deployers.manifests.network import supporting
from stacks.deployers.rollout import ClusterEndpoint, Rollout, holds

__all__ = ["OperatedEndpoint"]


class OperatedEndpoint(ClusterEndpoint):
    """Pods of one model name, created by an operator from a custom resource.

    Operators report their status differently in each version, so a rollout is done when pods of the new manifest are
    ready and no others are left.
    """

    OTHERS: ClassVar[tuple[str, ...]] = ("NetworkPolicy", "Ingress")

    def beside(self, served: PodModel) -> list[Manifest]:
        """Return the objects next to the workload."""
        return supporting(served, self.config, self.pods())

    def rollout(self, live: Manifest, pods: Sequence[Manifest]) -> Rollout:
        """Return the progress of a rollout."""
        status, wanted = live.get("status", {}), self.replicas(live)
        seen = status.get("observedGeneration")
        if seen is not None and seen < live["metadata"].get("generation", 0):
            return Rollout(done=False, progress="its operator has not started")
        if failure := self.failure(status):
            return Rollout(done=False, failure=failure)
        ready = sum(_is_ready(pod) for pod in pods)
        if ready < wanted:
            return Rollout(done=False, progress=f"{ready} of {wanted} pods are ready")
        known = {pod["metadata"]["name"] for pod in pods}
        there = [pod["metadata"] for pod in self._namespace.select("Pod", self.pods())]
        if old := sum(pod["name"] not in known and "deletionTimestamp" not in pod for pod in there):
            return Rollout(done=False, progress=f"{old} old pods still run")
        return Rollout(done=self.is_available(live), progress="its operator does not report it as available")

    def failure(self, status: Mapping[str, Any]) -> str:
        """Return the operator's report of a permanent failure, or ""."""
        raise NotImplementedError


def _is_ready(pod: Manifest) -> bool:
    return any(holds(condition, "Ready") for condition in pod.get("status", {}).get("conditions", ()))
