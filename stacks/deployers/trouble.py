"""Why pods do not become ready, and how to fix it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import Manifest

__all__ = ["explain_failure", "find_trouble", "one_line"]

_LOG_LINES = 20

_NEVER = {
    "ImagePullBackOff": "check image and image_pull_secrets",
    "ErrImageNeverPull": "load the image on the nodes, or set image_pull_policy",
    "InvalidImageName": "check image",
    "CreateContainerConfigError": "make the Secret, or its key, that it names",
    "CreateContainerError": "check image and run_as",
    "RunContainerError": "check image and run_as",
}
"""Why a container waits that will not start by itself, and the mend."""


def find_trouble(namespace: Namespace, pods: Sequence[Manifest]) -> tuple[bool, str]:
    """Return whether the pods will never be ready, and what keeps them from it.

    Raises:
        DeploymentError: A log cannot be read.
    """
    waits = ""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = container.get("state", {}).get("waiting", {})
            reason, said = waiting.get("reason", ""), one_line(waiting.get("message", ""))
            if reason == "CrashLoopBackOff":
                return True, _last_words(namespace, name, container)
            if reason in _NEVER:
                return True, f"{name}: {reason} ({said or container['name']}); {_NEVER[reason]}"
        for condition in status.get("conditions", ()):
            if condition.get("reason") == "Unschedulable":
                waits = f"{name}: no node takes it ({one_line(condition.get('message', ''))}); add nodes, "
                waits += "or lower resources"
    return False, waits


def _last_words(namespace: Namespace, pod: str, container: Mapping[str, Any]) -> str:
    ended = container.get("lastState", {}).get("terminated", {})
    if ended.get("reason") == "OOMKilled":
        return f"{pod}: killed for its memory; raise resources.limits.memory"
    name = container["name"]
    lines = namespace.log(pod, name, lines=_LOG_LINES, previous=True)
    said = next((line for line in reversed(lines) if line.strip()), f"exit code {ended.get('exitCode', '?')}")
    see = f"kubectl logs -n {namespace.name} {pod} -c {name} --previous"
    return f"{pod}: {name} ends again and again ({one_line(said.removeprefix('error: '))}); see {see}"


def explain_failure(failure: str) -> str:
    """Return what a workload says of its failure, and what to do."""
    if "exceeded quota" in failure:
        quota = failure[failure.index("exceeded quota") :]
        return f"{quota}; raise the ResourceQuota, or lower resources or replicas"
    return f"{failure}; kubectl describe what it names"


def one_line(text: str) -> str:
    """Return ``text`` with all white space as single spaces."""
    return " ".join(str(text).split())
