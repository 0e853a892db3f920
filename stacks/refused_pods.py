"""Find the pods and Jobs of a run that a cluster does not admit.

A denied pod only leaves an event, and its Job waits forever. A denied Job only leaves an error in the log of the pod
that starts steps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from stacks.deployers.admission import explain_denial
from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import Manifest
from visionops.errors import DeploymentError

__all__ = ["JOB_LABEL", "refused_job", "refused_pods"]

JOB_LABEL = "job-name"
"""Label of a pod with the name of its Job."""
_REASON = "FailedCreate"
_PREFIX = "Error creating: "
_CONTAINER = "main"
_LOG_LINES = 500
_ANSWER = "HTTP response body: "


def refused_pods(
    namespace: Namespace, jobs: Sequence[Manifest], pods: Sequence[Manifest]
) -> dict[str, tuple[bool, str]]:
    """Return the Jobs whose pods the cluster denies, by name: whether only a person can fix it, and why, with the fix.

    Args:
        jobs: Jobs that have not ended.
        pods: Pods of the Jobs.
    """
    has_pod = {pod["metadata"].get("labels", {}).get(JOB_LABEL) for pod in pods}
    names = {job["metadata"]["name"] for job in jobs} - has_pod
    if not names:
        return {}
    try:
        events = namespace.events("Job", _REASON)
    except DeploymentError as error:  # probably a missing right; the run continues
        return dict.fromkeys(names, (False, f"it has no pod, for an unknown reason ({error})"))
    found = {}
    for event in events:  # the newest event of a Job comes last
        if (name := event["involvedObject"]["name"]) in names:
            said = " ".join(event.get("message", "").split()).removeprefix(_PREFIX)
            is_final, why = explain_denial(said)
            found[name] = is_final, why or said
    return found


def refused_job(namespace: Namespace, starters: Sequence[Manifest]) -> str:
    """Return the cluster's answer when it denied a Job to the pod that starts steps, with the fix.

    Args:
        starters: Jobs whose pods start the steps.

    Returns:
        The answer, or "" if no log has one.

    Raises:
        DeploymentError: The cluster does not list its pods.
    """
    for job in starters:
        for pod in namespace.select("Pod", {JOB_LABEL: job["metadata"]["name"]}):
            for line in reversed(namespace.log(pod["metadata"]["name"], _CONTAINER, lines=_LOG_LINES)):
                if said := _answer(line):
                    return explain_denial(said)[1] or said
    return ""


def _answer(line: str) -> str:
    """Return the message of the answer in a client library's error; "" for a line without one."""
    try:
        return " ".join(str(json.loads(line.partition(_ANSWER)[2])["message"]).split())
    except (ValueError, KeyError, TypeError):
        return ""
