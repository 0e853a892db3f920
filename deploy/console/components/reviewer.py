"""Element of the review page, which runs in the browser, so that a reviewer never waits for the server."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from nicegui import ui
from nicegui.dependencies import register_esm
from nicegui.element import Element

from deploy.console.context import Viewer

__all__ = ["Reviewer"]

_HERE: Final = Path(__file__).parent
_MODULES: Final = _HERE / "review"
_HOLD_MILLISECONDS: Final = 5000
"""Milliseconds in which a decision can be undone before it is sent."""


def _digest() -> float:
    """Return a number that changes with the modules, because browsers cache a module forever by its address."""
    texts = (path.name.encode() + path.read_bytes() for path in sorted(_MODULES.glob("*.js")))
    return float(int(hashlib.sha256(b"".join(texts)).hexdigest()[:12], 16))


register_esm("visionops-review", _MODULES, max_time=_digest())


class Reviewer(Element, component="reviewer.js"):
    """Show the queue of a use case, image by image or as a grid; the element calls `/api/review` itself.

    Args:
        viewer: The reviewer; the browser keeps the unsent decisions of each reviewer apart.
        use_case: Use case to show first; if empty, the last one chosen in this browser.
        item: Item to claim before those of the queue; none if empty.
        hold: Milliseconds in which a decision can be undone before it is sent.
    """

    def __init__(self, viewer: Viewer, use_case: str = "", item: str = "", hold: int = _HOLD_MILLISECONDS) -> None:
        super().__init__()
        ui.add_css(_HERE / "reviewer.css")
        self._props["viewer"] = viewer.name
        self._props["is-admin"] = viewer.actor.is_admin
        self._props["wanted-use-case"] = use_case
        self._props["wanted-item"] = item
        self._props["hold"] = hold
