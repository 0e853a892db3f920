"""List every route of the prediction server with the roles that may call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from deploy.http.gate import ADMIN, ANY, OPEN, WEBSOCKET
from deploy.http.keys import KeyRole

__all__ = ["PAGES", "PROBES", "ROLES"]

PREDICT: Final = frozenset({KeyRole.PREDICT, KeyRole.ADMIN})
FEEDBACK: Final = frozenset({KeyRole.FEEDBACK, KeyRole.ADMIN})

ROLES: Final[Mapping[str, frozenset[KeyRole]]] = {
    "GET /": PREDICT,
    "GET /docs": ANY,
    "GET /favicon.ico": OPEN,
    "GET /assets/access.js": OPEN,
    "GET /assets/docs.js": OPEN,
    "GET /assets/home.js": OPEN,
    "GET /assets/page.css": OPEN,
    "GET /assets/swagger-ui.css": OPEN,
    "GET /assets/swagger-ui.js": OPEN,
    "GET /health": OPEN,
    "GET /ready": ANY,
    "GET /metrics": ANY,
    "GET /openapi.json": ANY,
    "GET /model": PREDICT,
    "GET /models": PREDICT,
    "GET /release": PREDICT,
    "POST /predict": PREDICT,
    "POST /predict/batch": PREDICT,
    "POST /explain": PREDICT,
    "GET /stream": PREDICT,
    f"{WEBSOCKET} /stream": PREDICT,
    "POST /feedback": FEEDBACK,
    "GET /v2": PREDICT,
    "GET /v2/health/live": ANY,
    "GET /v2/health/ready": ANY,
    "GET /v2/models/{name}": PREDICT,
    "GET /v2/models/{name}/ready": PREDICT,
    "GET /v2/models/{name}/versions/{version}": PREDICT,
    "GET /v2/models/{name}/versions/{version}/ready": PREDICT,
    "POST /v2/models/{name}/infer": PREDICT,
    "POST /v2/models/{name}/versions/{version}/infer": PREDICT,
    "POST /reload": ADMIN,
    "POST /unload": ADMIN,
}
"""Roles that may call each route. A route that is not listed does not exist."""

PAGES: Final = frozenset({"/", "/docs"})
"""Paths with a page for browsers. The page has no data and asks for a key if one is needed; its JSON needs the key."""

PROBES: Final = frozenset({"/health", "/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Paths that machines poll: without a rate limit, not logged."""
