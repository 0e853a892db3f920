"""Parts of a page that come once it is shown: what fills them takes seconds to find."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from nicegui import ui

from deploy.console.pages.frame import problem
from visionops.errors import VisionOpsError

__all__ = ["fill_later", "find"]

_T = TypeVar("_T")
_MOST = 8


@functools.cache
def _limiter() -> CapacityLimiter:
    """Slow questions have threads of their own: pages that wait for ZenML take none from those that review."""
    return CapacityLimiter(_MOST)


async def find(work: Callable[..., _T], *arguments: Any) -> _T:
    """Return what a slow blocking function finds, called in a thread."""
    return await to_thread.run_sync(work, *arguments, limiter=_limiter())


def fill_later(work: Callable[[], _T], show: Callable[[_T], None], *, lines: int = 1) -> ui.element:
    """Show a placeholder now, and what a slow function finds when it is there.

    An error of ours is shown in its place.

    Args:
        work: Blocks; called in a thread once a browser has the page.
        show: Fills the place, which is empty again by then.
        lines: Height of the placeholder, in lines of text.
    """
    place = ui.element("div").props('aria-busy="true"').classes("vm-later")
    with place:
        for _ in range(lines):
            ui.skeleton("text").props('aria-hidden="true"')

    async def fill() -> None:
        try:
            found = await find(work)
        except VisionOpsError as error:
            reason = str(error)
            _replace(place, lambda: problem(reason))
            return
        _replace(place, lambda: show(found))

    ui.timer(0.01, fill, once=True)
    return place


def _replace(place: ui.element, show: Callable[[], None]) -> None:
    if place.is_deleted:  # its reader has left
        return
    place.clear()
    place.props(remove="aria-busy")
    with place:
        show()
