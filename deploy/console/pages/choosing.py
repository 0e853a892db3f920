"""Which use case a page is about where its address does not say."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from starlette.requests import Request

from deploy.console.context import Console

__all__ = ["wanted_use_case"]

_COOKIE = "visionops_use_case"
"""Set by `session.js` to the last use case that an address named."""


def wanted_use_case(console: Console, request: Request, names: Sequence[str]) -> str:
    """Return the use case of the address, or the one looked at last, or the first that has a champion, or the first.

    Args:
        names: To choose from; what the address names may be none of them.

    Returns:
        "" where there are none.
    """
    if asked := request.query_params.get("use_case"):
        return asked
    if (kept := unquote(request.cookies.get(_COOKIE, ""))) in names:
        return kept
    models = console.facts.recent("models") or {}  # not asked for: a page does not wait for ZenML
    trained = (name for name in names if models.get(name, {}).get("champion"))
    return next(trained, names[0] if names else "")
