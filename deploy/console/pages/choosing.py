"""Choose the use case of a page, if its address does not name one."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from starlette.requests import Request

from deploy.console.context import Console

__all__ = ["wanted_use_case"]

_COOKIE = "visionops_use_case"
"""Cookie with the last use case that an address named, set by `session.js`."""


def wanted_use_case(console: Console, request: Request, names: Sequence[str]) -> str:
    """Return the use case of the address, or the last viewed one, or the first with a champion, or the first.

    Args:
        names: Known use cases; the address may name an unknown one.

    Returns:
        The name; "" if there is no use case.
    """
    if named := request.query_params.get("use_case"):
        return named
    if (kept := unquote(request.cookies.get(_COOKIE, ""))) in names:
        return kept
    models = console.facts.recent("models") or {}  # the cached answer, because a page must not wait for ZenML
    trained = (name for name in names if models.get(name, {}).get("champion"))
    return next(trained, names[0] if names else "")
