"""The frame of every page: navigation, who is looking, light and dark, and how errors are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from nicegui import ui
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from deploy.console.context import Console, Viewer, viewer_of
from deploy.console.routes import PATHS
from visionops.errors import VisionOpsError
from visionops.review.users import UserRole

__all__ = ["add_page", "attempt", "in_thread", "problem"]

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Link:
    path: str
    text: str
    icon: str


_LINKS: Final = (
    _Link("/", "Overview", "dashboard"),
    _Link("/predict", "Predict", "image_search"),
    _Link("/review", "Review", "rate_review"),
    _Link("/search", "Search", "search"),
    _Link("/data", "Data", "dataset"),
    _Link("/training", "Training", "model_training"),
    _Link("/models", "Models", "inventory_2"),
    _Link("/monitoring", "Monitoring", "query_stats"),
    _Link("/users", "Users", "group"),
)


def add_page(console: Console, path: str, title: str, build: Callable[[Viewer, Request], Awaitable[None]]) -> None:
    """Add a page inside the frame.

    An error of ours that ``build`` raises is shown in its place. What a page reads of a database, a file or a server
    it reads by `in_thread`, so that other pages go on meanwhile.

    Args:
        path: Listed in `routes.PATHS`, with the role that may look at it.
        build: Makes the content below the title.
    """

    @ui.page(path, title=f"{title} · VisionOps")
    async def page(request: Request) -> None:
        viewer = viewer_of(request)
        console.metrics.viewed(path)
        _frame(path, viewer)
        with ui.element("main").classes("vo-content column"):
            ui.html(f"<h1 class='vo-title'>{title}</h1>", sanitize=False)
            try:
                await build(viewer, request)
            except VisionOpsError as error:
                problem(str(error))


async def in_thread(work: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
    """Return what a blocking function returns, called in a thread."""
    return await run_in_threadpool(work, *arguments, **named)


async def attempt(viewer: Viewer, role: UserRole, work: Callable[[], _T]) -> _T | None:
    """Do what a button is for, in a thread; an error of ours becomes a message at the lower edge.

    Args:
        role: That the action needs, checked now: the page may be older than the viewer's rights.

    Returns:
        What ``work`` returns; None where it was refused.
    """
    try:
        viewer.require(role)
        return await in_thread(work)
    except VisionOpsError as error:
        ui.notify(str(error), type="negative", multi_line=True, close_button="Close", timeout=0)
        return None


def problem(text: str) -> None:
    """Show what cannot be shown, and why."""
    with ui.row().classes("vo-card items-center no-wrap").props('role="alert"'):
        ui.icon("error", size="24px").classes("vo-bad").props('aria-hidden="true"')
        ui.label(text)


def _frame(path: str, viewer: Viewer) -> None:
    ui.add_head_html('<link rel="stylesheet" href="/static/console.css">')
    ui.colors(primary="#1f5fa8", positive="#14713d", negative="#b3261e", warning="#8a5a00")
    dark = ui.dark_mode()
    with (
        ui.header(bordered=True)
        .classes("row no-wrap items-center q-px-md q-py-xs")
        .style("background: #16324f; color: #fff")
    ):
        menu = ui.button(icon="menu").props('flat round color=white aria-label="Navigation"')
        ui.label("VisionOps").style("font-weight: 600; font-size: 18px")
        ui.space()
        ui.label(f"{viewer.name} · {viewer.role}")
        ui.button(icon="contrast", on_click=dark.toggle).props('flat round color=white aria-label="Light or dark"')
    with ui.left_drawer(value=True, bordered=True).props("width=220 breakpoint=1000") as drawer:  # noqa: SIM117
        with ui.element("nav").props('aria-label="Pages"').style("width: 100%"):
            for link in _LINKS:
                if link.path in PATHS and viewer.role.includes(PATHS[link.path]):
                    _nav(link, is_active=link.path == path)
    menu.on_click(drawer.toggle)


def _nav(link: _Link, *, is_active: bool) -> None:
    with ui.link(target=link.path).classes("vo-nav" + (" vo-nav-active" if is_active else "")) as element:
        ui.icon(link.icon, size="20px").props('aria-hidden="true"')
        ui.label(link.text)
    if is_active:
        element.props('aria-current="page"')
