"""Explain why pods do not become ready, and how to fix it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from stacks.deployers.admission import explain_denial
from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import Manifest

__all__ = ["explain_failure", "find_trouble", "one_line"]

_LOG_LINES = 20
_RESTARTS = 2
"""Restarts after which a crashing container counts as permanently failed. The cluster reports CrashLoopBackOff only
between two attempts, and may show the exit of the last one for over a minute."""

_NEVER = {
    "ImagePullBackOff": "check image and image_pull_secrets",
    "ErrImageNeverPull": "load the image on the nodes, or set image_pull_policy",
    "InvalidImageName": "check image",
    "CreateContainerConfigError": "create the Secret, or its key, that is named here",
    "CreateContainerError": "check image and run_as",
    "RunContainerError": "check image and run_as",
}
"""Reasons of containers that will never start by themselves, and the fix."""


def find_trouble(namespace: Namespace, pods: Sequence[Manifest]) -> tuple[bool, str]:
    """Return whether the pods will never be ready, and their problem.

    Raises:
        DeploymentError: A log cannot be read.
    """
    waits = ""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = container.get("state", {}).get("waiting", {})
            reason, said = waiting.get("reason", ""), one_line(waiting.get("message", ""))
            if ended := _ended(container):
                is_loop = reason == "CrashLoopBackOff" or container.get("restartCount", 0) >= _RESTARTS
                words = _last_words(namespace, name, container["name"], ended, again=is_loop)
                if is_loop:
                    return True, words
                waits = words
            if reason in _NEVER:
                return True, f"{name}: {reason} ({said or container['name']}); {_NEVER[reason]}"
        for condition in status.get("conditions", ()):
            if condition.get("reason") == "Unschedulable":
                waits = f"{name}: does not fit on any node ({one_line(condition.get('message', ''))}); add nodes, "
                waits += "or lower resources"
    return False, waits


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the failed exit of a stopped container; empty if it runs, has not started or exited without error."""
    state = container.get("state", {})
    if "running" in state:
        return {}
    ended: Mapping[str, Any] = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    return ended if ended.get("exitCode") != 0 else {}


def _last_words(namespace: Namespace, pod: str, name: str, ended: Mapping[str, Any], *, again: bool) -> str:
    if ended.get("reason") == "OOMKilled":
        return f"{pod}: killed, out of memory; raise resources.limits.memory"
    # Between two attempts the last one is the previous container; right after its exit it is the current one.
    logs = (namespace.log(pod, name, lines=_LOG_LINES, previous=previous) for previous in (True, False))
    lines = (line for log in logs for line in reversed(log) if line.strip())
    said = next(lines, f"exit code {ended.get('exitCode', '?')}")
    how = "exits again and again" if again else "exited and is restarting"
    see = shlex.join([*namespace.kubectl, "logs", pod, "-c", name, "--previous"])
    return f"{pod}: {name} {how} ({one_line(said.removeprefix('error: '))}); see {see}"


def explain_failure(failure: str) -> str:
    """Return a workload's failure with its fix."""
    _, denial = explain_denial(failure)
    return denial or f"{failure}; run kubectl describe on the object named here"


def one_line(text: str) -> str:
    """Return ``text`` with all white space as single spaces."""
    return " ".join(str(text).split())
