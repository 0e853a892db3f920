"""The overview: each use case with its champion, its queue, its last run, and what needs a person."""

from __future__ import annotations

from nicegui import ui
from starlette.requests import Request

from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import add_page, in_thread

__all__ = ["register"]


def register(console: Console) -> None:
    """Add the page ``/``."""

    async def build(_viewer: Viewer, _request: Request) -> None:
        known, problems = await in_thread(console.use_cases.all)
        for text in problems:
            ui.label(text).classes("vo-warn")
        with ui.element("div").classes("vo-grid"):
            for one in known:
                with ui.element("section").classes("vo-card"):
                    ui.html(f"<h2 class='vo-heading'>{one.name}</h2>", sanitize=False)
                    ui.label(one.path.name).classes("vo-muted")

    add_page(console, "/", "Overview", build)
