"""Every path of the console with the role that it needs. What is not listed does not exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.routing import compile_path

from visionops.review.users import UserRole

__all__ = ["OPEN_PATHS", "PATHS", "role_of"]

OPEN_PATHS: Final = frozenset({"/live", "/ready", "/login", "/favicon.ico"})
"""Without a session."""

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
    "/api/items/{item}/image": UserRole.VIEWER,
}
"""A page's role is that to look at it; an action on it may need more, which it checks itself."""

_PATTERNS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple((compile_path(path)[0], path) for path in PATHS)


def role_of(path: str) -> tuple[str, UserRole] | None:
    """Return the listed path that a request's path matches, and the role that it needs; None where there is none."""
    for pattern, known in _PATTERNS:
        if pattern.match(path):
            return known, PATHS[known]
    return None
