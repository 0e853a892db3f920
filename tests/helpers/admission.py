"""Admission controllers of the mock cluster: they deny objects, and pods of controllers, with the API server's
messages.

>>> cluster.admission = [webhook("pods", "container server has no owner label")]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kmock import KubernetesError

__all__ = ["Admission", "level", "policy", "quota", "silent_webhook", "webhook"]

Admission = Callable[[str, Mapping[str, Any]], KubernetesError | None]
"""Function that checks a created or changed object, given its kind in the plural and its manifest."""

_GROUPS = {"deployments": "deployments.apps", "jobs": "jobs.batch"}


def webhook(plural: str, why: str, *, status: int = 403, only: str = "") -> Admission:
    """Deny as Gatekeeper does (403), or Kyverno (400, with many lines).

    Args:
        only: Text that a denied object's name contains.
    """
    said = f'admission webhook "policy.plant.example" denied the request: {why}'
    return _denying(plural, only, lambda _: (status, "Forbidden" if status == 403 else "", said))


def policy(plural: str, why: str) -> Admission:
    """Deny as a ValidatingAdmissionPolicy does."""
    said = f"ValidatingAdmissionPolicy 'owners' with binding 'plant' denied request: {why}"
    return _denying(plural, "", lambda name: (422, "Invalid", f"{_forbidden(plural, name)}: {said}"))


def silent_webhook(plural: str) -> Admission:
    """Deny as the API server does when a webhook does not answer."""
    said = (
        'Internal error occurred: failed calling webhook "policy.plant.example": failed to call webhook: Post '
        '"https://policy.plant.svc:443/validate?timeout=10s": dial tcp 10.96.1.7:443: connect: connection refused'
    )
    return _denying(plural, "", lambda _: (500, "InternalError", said))


def quota(plural: str, *, only: str = "") -> Admission:
    """Deny objects beyond a ResourceQuota: requests of pods, else the number of objects."""
    what = "requests.cpu" if plural == "pods" else f"count/{_GROUPS.get(plural, plural)}"
    said = f"exceeded quota: team, requested: {what}=1, used: {what}=4, limited: {what}=4"
    return _denying(plural, only, lambda name: (403, "Forbidden", f"{_forbidden(plural, name)}: {said}"))


def level(why: str) -> Admission:
    """Deny pods that violate the namespace's Pod Security level."""
    said = f'violates PodSecurity "restricted:latest": {why}'
    return _denying("pods", "", lambda name: (403, "Forbidden", f"{_forbidden('pods', name)}: {said}"))


def _forbidden(plural: str, name: str) -> str:
    return f'{_GROUPS.get(plural, plural)} "{name}" is forbidden'


def _denying(plural: str, only: str, answer: Callable[[str], tuple[int, str, str]]) -> Admission:
    def look(kind: str, manifest: Mapping[str, Any]) -> KubernetesError | None:
        name = str(manifest["metadata"]["name"])
        if kind != plural or only not in name:
            return None
        status, reason, message = answer(name)
        return KubernetesError(status=status, reason=reason or "Failure", message=message)

    return look
