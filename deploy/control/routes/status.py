"""Routes `GET /live`, `/ready` and `/metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deploy.control.routes.context import Control, refusals
from visionops.review.errors import OtherSchema, Unavailable

__all__ = ["status_router"]


def status_router(control: Control) -> APIRouter:
    """Return the status routes over ``control``."""
    router = APIRouter()

    @router.get("/live", responses=refusals())
    async def live() -> dict[str, str]:
        """Return that the process is running."""
        return {"status": "live"}

    @router.get("/ready", responses=refusals())
    def ready(request: Request) -> dict[str, Any]:
        """Check that database and images can be reached. Only authenticated clients see the reason of a 503."""
        try:
            control.runs.ping()
        except (OtherSchema, Unavailable) as error:
            raise _refused("database", error, known=request.state.known) from error
        try:
            next(iter(control.review.images.digests()), None)
        except Unavailable as error:
            raise _refused("images", error, known=request.state.known) from error
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response, responses=refusals())
    def scrape() -> Response:
        """Return the metrics for Prometheus."""
        try:
            control.metrics.queue(control.runs.waiting())
        except (OtherSchema, Unavailable):
            control.metrics.queue(None)
        return Response(control.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _refused(what: str, error: Exception, *, known: bool) -> Unavailable:
    return Unavailable(f"{what}: {error}" if known else f"{what}: cannot be reached")
