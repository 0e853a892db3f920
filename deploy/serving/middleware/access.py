"""Who may do what: every route of the prediction server with the roles it is open to."""

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
"""Each route and who may call it. What is not listed does not exist: the gate lets nothing else through."""

PAGES: Final = frozenset({"/", "/docs"})
"""Have a page for browsers: a shell without facts, which asks for a key where one is needed. Its JSON needs the key."""

PROBES: Final = frozenset({"/health", "/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
"""Called again and again by machines: not limited in rate, not logged."""
