"""Check the health of an endpoint by a request to it."""

from __future__ import annotations

import dataclasses

import httpx

from deploy.console.attention import AttentionItem

__all__ = ["Health", "check_endpoint"]

_TIMEOUT_SECONDS = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """Health of an endpoint."""

    state: str
    """``ready``, ``not ready``, ``silent``, or ``none`` if nothing is served."""
    detail: str = ""
    url: str = ""
    served: str = ""
    """Served model, as text for people."""

    def need(self, name: str) -> AttentionItem | None:
        """Return a need if the endpoint is not ready; None if it is, or if nothing is served."""
        if self.state in {"ready", "none"}:
            return None
        return AttentionItem(f"{name}: the endpoint is {self.state}", f"/models?use_case={name}", is_urgent=True)


def check_endpoint(served: dict[str, str] | None) -> Health:
    """Check whether an endpoint is ready.

    Args:
        served: A row of the fact ``endpoints``; None if nothing is served.
    """
    if served is None:
        return Health("none")
    what = f"version {served['version'] or '?'}"
    url = served["url"]
    if not url.startswith(("http://", "https://")):
        return Health("silent", served["trouble"] or served["state"], "", what)
    try:
        answer = httpx.get(f"{url}/ready", timeout=_TIMEOUT_SECONDS)
    except httpx.HTTPError as error:
        return Health("silent", f"does not answer ({type(error).__name__})", url, what)
    if answer.status_code == httpx.codes.OK:
        return Health("ready", "", url, what)
    return Health("not ready", f"answers {answer.status_code}", url, what)
