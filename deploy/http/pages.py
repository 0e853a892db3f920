"""Provide the icon of our pages, and decide which clients prefer a page to JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["FAVICON", "prefers_html"]

FAVICON: Final = Path(__file__).with_name("favicon.svg")
"""The icon of every page."""

_HTML: Final = ("text/html", "text/*")
_JSON: Final = ("application/json", "application/*", "*/*")


def prefers_html(accept: str) -> bool:
    """Return whether a client prefers a page to JSON, by its header Accept (RFC 9110, section 12.5.1).

    Only a client that names a text type gets a page: one that accepts anything, such as curl, gets JSON. If two types
    have the same weight, the first one wins.
    """
    ranges: dict[str, tuple[float, int]] = {}
    for position, part in enumerate(accept.lower().split(",")):
        kind, *parameters = (text.strip() for text in part.split(";"))
        ranges[kind] = (_weight(parameters), -position)
    html, json = _rank(ranges, _HTML), _rank(ranges, _JSON)
    return html[0] > 0 and html > json


def _rank(ranges: dict[str, tuple[float, int]], kinds: tuple[str, ...]) -> tuple[float, int]:
    """Return weight and position of the most specific range that matches."""
    return next((ranges[kind] for kind in kinds if kind in ranges), (0.0, 0))


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
