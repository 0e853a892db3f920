"""Routes `GET /live`, `/ready`, `/metrics`, and the console's style sheet and script."""

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
    """Return the status routes over ``console``."""
    router = APIRouter()

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Return that the process is running."""
        return {"status": "live"}

    @router.get("/ready")
    def ready() -> dict[str, str]:
        """Check that database and images can be reached; 503 if not."""
        console.runs.ping()
        next(iter(console.review.images.digests()), None)
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response)
    def scrape() -> Response:
        """Return the metrics for Prometheus."""
        _look(console)
        return Response(console.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/static/console.css", response_class=FileResponse)
    async def style(request: Request) -> FileResponse:
        """Return the style sheet of every page."""
        request.state.cache_control = "private, max-age=300"
        return FileResponse(_STATIC / "console.css", media_type="text/css")

    @router.get("/static/session.js", response_class=FileResponse)
    async def script(request: Request) -> FileResponse:
        """Return the script that shows on every page when its session has ended."""
        request.state.cache_control = "private, max-age=300"
        return FileResponse(_STATIC / "session.js", media_type="text/javascript")

    return router


def _look(console: Console) -> None:
    """Update the metrics from the database."""
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
