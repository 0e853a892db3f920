"""Collect the release reports of all pods behind one address; each connection reaches one of them."""

from __future__ import annotations

import requests

from visionops.errors import DeploymentError
from visionops.inference.release_report import ReleaseReport, ReleaseReports

__all__ = ["gather_reports"]

_SECONDS = 10.0
_TRIES_FOR_EACH = 8
"""New connections per pod. With few pods behind a Service, one is missed only once in thousands of attempts."""


def gather_reports(url: str, key: str, pods: int) -> ReleaseReports:
    """Open new connections until each pod has reported, up to `_TRIES_FOR_EACH` per pod.

    Args:
        pods: Number of pods.

    Raises:
        DeploymentError: The URL does not answer, or its answer is not a report.
    """
    found: dict[str, ReleaseReport] = {}
    with requests.Session() as session:
        session.trust_env = False  # the environment's proxy cannot reach the cluster
        for _ in range(_TRIES_FOR_EACH * pods):
            report = _ask(session, url, key)
            found[report.instance] = report
            if len(found) >= pods:
                break
    return ReleaseReports.of(found.values(), expected=pods)


def _ask(session: requests.Session, url: str, key: str) -> ReleaseReport:
    try:
        answer = session.get(f"{url}/release", timeout=_SECONDS, headers={"X-API-Key": key, "Connection": "close"})
    except requests.RequestException as error:
        raise DeploymentError(
            f"{url}: cannot be reached from here ({type(error).__name__}); run this where the endpoint answers: in the "
            "cluster, or through its ingress"
        ) from error
    if not answer.ok:
        raise DeploymentError(f"{url}: no release report: status {answer.status_code}")
    return ReleaseReport.model_validate_json(answer.content)
