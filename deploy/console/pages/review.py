"""Page Review: decide the queue of a use case by keyboard, mouse or touch."""

from __future__ import annotations

from starlette.requests import Request

from deploy.console.components.reviewer import Reviewer
from deploy.console.context import Console, Viewer
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.frame import add_page, in_thread

__all__ = ["register"]


def register(console: Console) -> None:
    """Add the page ``/review``; ``?use_case=`` and ``?item=`` choose what it shows first."""

    async def build(viewer: Viewer, request: Request) -> None:
        names = [case.name for case in await in_thread(console.review.store.use_cases)]
        Reviewer(viewer, wanted_use_case(console, request, names)[:200], request.query_params.get("item", "")[:64])

    add_page(console, "/review", "Review", build)
