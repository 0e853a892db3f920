"""`GET /live`, `/ready`, `/metrics`, and the console's own style sheet and script."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from prometheus_client import CONTENT_TYPE_LATEST

from deploy.console.context import Console
from visionops.review.errors import ReviewError

__all__ = ["status_router"]

_STATIC = Path(__file__).parent / "static"


def status_router(console: Console) -> APIRouter:
    """Return the routes over ``console``."""
    router = APIRouter()

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Return whether the process lives."""
        return {"status": "live"}

    @router.get("/ready")
    def ready() -> dict[str, str]:
        """Return whether database and images can be reached; 503 says that they cannot."""
        console.runs.ping()
        next(iter(console.review.images.digests()), None)
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response)
    def scrape() -> Response:
        """Return what Prometheus scrapes."""
        _look(console)
        return Response(console.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/static/console.css", response_class=FileResponse)
    async def style(request: Request) -> FileResponse:
        """Return the style sheet of every page."""
        request.state.cache_control = "private, max-age=300"
        return FileResponse(_STATIC / "console.css", media_type="text/css")

    @router.get("/static/session.js", response_class=FileResponse)
    async def script(request: Request) -> FileResponse:
        """Return what says on every page that its session has ended."""
        request.state.cache_control = "private, max-age=300"
        return FileResponse(_STATIC / "session.js", media_type="text/javascript")

    return router


def _look(console: Console) -> None:
    """Have the metrics show what the database knows now."""
    store, now = console.review.store, console.now()
    try:
        stats = {one.name: store.stats(one.name) for one in store.use_cases()}
        sessions = sum(one.sessions for one in console.access.users.accounts(now, console.access.rules))
    except ReviewError:
        console.metrics.database(None)
        return
    oldest = {
        name: 0.0 if one.oldest_pending is None else (now - one.oldest_pending).total_seconds()
        for name, one in stats.items()
    }
    console.metrics.database({name: (one, oldest[name]) for name, one in stats.items()}, sessions)
