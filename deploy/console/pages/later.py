"""Load slow parts of a page after it is shown."""

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
    """Return the limiter for slow queries, so that pages that wait for ZenML use none of the reviewers' threads."""
    return CapacityLimiter(_MOST)


async def find(work: Callable[..., _T], *arguments: Any) -> _T:
    """Call a slow blocking function in a thread and return its result."""
    return await to_thread.run_sync(work, *arguments, limiter=_limiter())


def fill_later(work: Callable[[], _T], show: Callable[[_T], None], *, lines: int = 1) -> ui.element:
    """Show a placeholder, and replace it with the result of a slow function.

    If the function raises one of our errors, the error is shown.

    Args:
        work: Blocking function, called in a thread once a browser has loaded the page.
        show: Shows the result in the emptied place.
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
    if place.is_deleted:  # the page was closed
        return
    place.clear()
    place.props(remove="aria-busy")
    with place:
        show()
