"""List every route of the control service with the roles that may call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deploy.http.gate import ADMIN, ANY, OPEN
from deploy.http.keys import KeyRole

__all__ = ["PROBES", "ROLES"]

REVIEW: Final = frozenset({KeyRole.REVIEW, KeyRole.ADMIN})
UPLOAD: Final = frozenset({KeyRole.FEEDBACK, KeyRole.REVIEW, KeyRole.ADMIN})

ROLES: Final[Mapping[str, frozenset[KeyRole]]] = {
    "GET /live": OPEN,
    "GET /ready": OPEN,
    "GET /metrics": ANY,
    "GET /openapi.json": ANY,
    "POST /retrain": ADMIN,
    "GET /use-cases": REVIEW,
    "GET /runs": REVIEW,
    "GET /runs/{run}": REVIEW,
    "POST /runs/{run}/cancel": ADMIN,
    "GET /models": REVIEW,
    "POST /models/{name}/promote": ADMIN,
    "POST /models/{name}/rollback": ADMIN,
    "GET /review/use-cases": REVIEW,
    "GET /review/items": REVIEW,
    "POST /review/items": UPLOAD,
    "GET /review/items/{item}": REVIEW,
    "GET /review/items/{item}/image": REVIEW,
    "POST /review/items/{item}/claim": REVIEW,
    "POST /review/items/{item}/renew": REVIEW,
    "POST /review/items/{item}/release": REVIEW,
    "POST /review/items/{item}/decide": REVIEW,
    "POST /review/items/{item}/reopen": ADMIN,
    "POST /review/{use_case}/claim": REVIEW,
    "POST /review/{use_case}/export": ADMIN,
    "GET /review/{use_case}/stats": REVIEW,
    "GET /review/{use_case}/agreement": REVIEW,
    "GET /similar": REVIEW,
    "POST /similar": REVIEW,
}
"""Roles that may call each route. A route that is not listed does not exist."""

PROBES: Final = frozenset({"/live", "/ready", "/metrics"})
"""Paths that machines poll: without a rate limit, logged at level debug."""
