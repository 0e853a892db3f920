"""List every path of the console with its required role. A path that is not listed does not exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.routing import compile_path

from visionops.review.users import UserRole

__all__ = ["OPEN_PATHS", "PATHS", "UNUSED_PATHS", "role_of"]

OPEN_PATHS: Final = frozenset(
    {"/live", "/ready", "/login", "/login/oidc/start", "/login/oidc/callback", "/favicon.ico", "/static/console.css"}
)
"""Paths that need no session."""
UNUSED_PATHS: Final = frozenset({"/api/session", "/api/review/claim", "/api/review/stats", "/metrics"})
"""Paths that pages or machines request by themselves, which does not keep a session from idling out."""

PATHS: Final[Mapping[str, UserRole]] = {
    "/": UserRole.VIEWER,
    "/metrics": UserRole.VIEWER,
    "/static/{path:path}": UserRole.VIEWER,
    "/predict": UserRole.VIEWER,
    "/review": UserRole.REVIEWER,
    "/search": UserRole.VIEWER,
    "/data": UserRole.VIEWER,
    "/training": UserRole.VIEWER,
    "/models": UserRole.VIEWER,
    "/monitoring": UserRole.VIEWER,
    "/users": UserRole.ADMIN,
    "/logout": UserRole.VIEWER,
    "/api/session": UserRole.VIEWER,
    "/api/items/{item}/image": UserRole.VIEWER,
    "/api/review/use-cases": UserRole.REVIEWER,
    "/api/review/stats": UserRole.REVIEWER,
    "/api/review/claim": UserRole.REVIEWER,
    "/api/review/release": UserRole.REVIEWER,
    "/api/review/items/{item}/similar": UserRole.REVIEWER,
    "/api/review/items/{item}/claim": UserRole.REVIEWER,
    "/api/review/items/{item}/decide": UserRole.REVIEWER,
    "/api/review/items/{item}/reopen": UserRole.ADMIN,
    "/api/items/{item}/thumbnail": UserRole.VIEWER,
    "/api/search/export": UserRole.ENGINEER,
    "/api/predict/{use_case}": UserRole.VIEWER,
    "/api/predict/{use_case}/explanation": UserRole.VIEWER,
    "/api/predict/{use_case}/wrong": UserRole.REVIEWER,
    "/api/data/{use_case}/{card}": UserRole.VIEWER,
}
"""Role that may see each path; a page checks the roles of its actions itself."""

_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple((compile_path(path)[0], path) for path in PATHS)


def role_of(path: str) -> tuple[str, UserRole] | None:
    """Return the listed path that matches a request's path, and its role; None if none matches."""
    for pattern, known in _PATTERNS:
        if pattern.match(path):
            return known, PATHS[known]
    return None
