"""What the pods behind one address say of a release: each connection meets one of them."""

from __future__ import annotations

import requests

from visionops.errors import DeploymentError
from visionops.inference.release_report import ReleaseReport, ReleaseReports

__all__ = ["gather_reports"]

_SECONDS = 10.0
_TRIES_FOR_EACH = 8
"""New connections for each pod: of few pods behind a Service, all are met but once in thousands."""


def gather_reports(url: str, key: str, pods: int) -> ReleaseReports:
    """Ask by ever new connections until each pod has answered, or as often as is reasonable.

    Args:
        pods: How many there are.

    Raises:
        DeploymentError: Nothing answers at ``url``, or not with a report.
    """
    found: dict[str, ReleaseReport] = {}
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment does not know the cluster
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
        raise DeploymentError(f"{url}: says nothing of a release: status {answer.status_code}")
    return ReleaseReport.model_validate_json(answer.content)
