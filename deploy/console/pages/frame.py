"""Frame of every page: navigation, account, theme and error display."""

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
_BUILD_SECONDS = 30.0
"""Seconds to build a page; slower parts load afterwards. A busy machine needs more than NiceGUI's default of 3."""


_THEME = "visionops_theme"
"""Cookie with the chosen theme, dark or light, set by `session.js`; without it the system's theme is used."""


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
_NO_USERS: Final = (
    "No users yet: only this machine is served, and everybody on it is an admin. Add the first user with: "
    "visionops user add NAME --role admin"
)


def add_page(console: Console, path: str, title: str, build: Callable[[Viewer, Request], Awaitable[None]]) -> None:
    """Add a page inside the frame.

    If ``build`` raises one of our errors, it is shown instead of the content. A page reads databases, files and servers
    by `in_thread`, so that other pages are not blocked.

    Args:
        path: Path of the page, listed in `routes.PATHS` with the role that may see it.
        build: Builds the content below the title.
    """

    @ui.page(path, title=f"{title} · VisionOps", response_timeout=_BUILD_SECONDS)
    async def page(request: Request) -> None:
        viewer = viewer_of(request)
        console.metrics.viewed(path)
        _frame(path, viewer, request.cookies.get(_THEME))
        with ui.element("div").classes("vo-content column"):  # inside the <main> that NiceGUI makes
            ui.html(f"<h1 class='vo-title'>{title}</h1>", sanitize=False)
            try:
                await build(viewer, request)
            except VisionOpsError as error:
                problem(str(error))


async def in_thread(work: Callable[..., _T], *arguments: Any, **named: Any) -> _T:
    """Call a blocking function in a thread and return its result."""
    return await run_in_threadpool(work, *arguments, **named)


async def attempt(viewer: Viewer, role: UserRole, work: Callable[[], _T]) -> _T | None:
    """Run a button's action in a thread; show one of our errors as a message at the lower edge.

    Args:
        role: Role that the action needs. Session and role are checked again, because they may have changed since the
            page was loaded.

    Returns:
        Result of ``work``; None if it was refused.
    """
    try:
        (await in_thread(viewer.current)).require(role)
        return await in_thread(work)
    except VisionOpsError as error:
        ui.notify(str(error), type="negative", multi_line=True, close_button="Close", timeout=0)
        return None


def problem(text: str) -> None:
    """Show an error in place of content."""
    with ui.row().classes("vo-card items-center no-wrap").props('role="alert"'):
        ui.icon("error", size="24px").classes("vo-bad").props('aria-hidden="true"')
        ui.label(text)


def _frame(path: str, viewer: Viewer, theme: str | None) -> None:
    ui.add_head_html('<link rel="stylesheet" href="/static/console.css">')
    ui.add_head_html('<script src="/static/session.js" defer></script>')
    ui.dark_mode({"dark": True, "light": False}.get(theme or ""))
    ui.colors(primary="#1f5fa8", positive="#14713d", negative="#b3261e", warning="#8a5a00")
    with (
        ui.header(bordered=True)
        .classes("row no-wrap items-center q-px-md q-py-xs")
        .style("background: #16324f; color: #fff; align-items: center")
    ):
        menu = ui.button(icon="menu").props('flat round color=white aria-label="Navigation"')
        ui.label("VisionOps").style("font-weight: 600; font-size: 18px")
        ui.space()
        _account(viewer)
        contrast = ui.button(icon="contrast").props('flat round color=white aria-label="Light or dark"')
        contrast.on("click", js_handler="() => window.visionopsTheme.toggle()")
    with ui.left_drawer(bordered=True).props("width=220 breakpoint=1000") as drawer:
        with ui.element("nav").props('aria-label="Pages"').style("width: 100%"):
            for link in _LINKS:
                if link.path in PATHS and viewer.role.includes(PATHS[link.path]):
                    _nav(link, is_active=link.path == path)
        if viewer.session is None:
            ui.label(_NO_USERS).classes("vo-muted q-pa-md").style("font-size: 13px; overflow-wrap: anywhere")
    menu.on_click(drawer.toggle)


def _account(viewer: Viewer) -> None:
    """Show who is signed in, and a button to sign out."""
    if viewer.session is None:
        ui.label("everybody on this machine · admin")
        return
    with ui.button(color=None).props('flat no-caps color=white icon-right="arrow_drop_down"').style("max-width: 40vw"):
        ui.label(f"{viewer.name} · {viewer.role}").classes("ellipsis")
        with ui.menu().props("auto-close=false"), ui.element("form").props('method="post" action="/logout"'):
            ui.button("Sign out", icon="logout", color=None).props("flat no-caps type=submit").classes("q-ma-sm")


def _nav(link: _Link, *, is_active: bool) -> None:
    with ui.link(target=link.path).classes("vo-nav" + (" vo-nav-active" if is_active else "")) as element:
        ui.icon(link.icon, size="20px").props('aria-hidden="true"')
        ui.label(link.text)
    if is_active:
        element.props('aria-current="page"')
