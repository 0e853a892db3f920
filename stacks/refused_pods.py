"""What a cluster does not admit of a run.

A denied pod shows in an event alone, and its Job waits for ever; a denied Job shows in the log of the pod that starts
steps.
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
"""Label by which a pod names its Job."""
_REASON = "FailedCreate"
_PREFIX = "Error creating: "
_CONTAINER = "main"
_LOG_LINES = 500
_ANSWER = "HTTP response body: "


def refused_pods(
    namespace: Namespace, jobs: Sequence[Manifest], pods: Sequence[Manifest]
) -> dict[str, tuple[bool, str]]:
    """Return the Jobs for which the cluster makes no pod, by name: whether only a change helps, and why, with the fix.

    Args:
        jobs: Those that have not ended.
        pods: Those that the Jobs have.
    """
    has_pod = {pod["metadata"].get("labels", {}).get(JOB_LABEL) for pod in pods}
    names = {job["metadata"]["name"] for job in jobs} - has_pod
    if not names:
        return {}
    try:
        events = namespace.events("Job", _REASON)
    except DeploymentError as error:  # most likely for want of the right; the run goes on all the same
        return dict.fromkeys(names, (False, f"it has no pod, and why cannot be seen ({error})"))
    found = {}
    for event in events:  # the newest of a Job last
        if (name := event["involvedObject"]["name"]) in names:
            said = " ".join(event.get("message", "").split()).removeprefix(_PREFIX)
            is_final, why = explain_denial(said)
            found[name] = is_final, why or said
    return found


def refused_job(namespace: Namespace, starters: Sequence[Manifest]) -> str:
    """Return what the cluster answered to the pod that starts steps when it was refused a Job, with the fix.

    Args:
        starters: The Jobs whose pods start those of the steps.

    Returns:
        "" where no log has such an answer.

    Raises:
        DeploymentError: The cluster does not say which pods it has.
    """
    for job in starters:
        for pod in namespace.select("Pod", {JOB_LABEL: job["metadata"]["name"]}):
            for line in reversed(namespace.log(pod["metadata"]["name"], _CONTAINER, lines=_LOG_LINES)):
                if said := _answer(line):
                    return explain_denial(said)[1] or said
    return ""


def _answer(line: str) -> str:
    """Return the message of an answer that the client library's error shows; "" where the line has none."""
    try:
        return " ".join(str(json.loads(line.partition(_ANSWER)[2])["message"]).split())
    except (ValueError, KeyError, TypeError):
        return ""
