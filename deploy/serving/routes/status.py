"""`GET /health`, `/ready`, `/model` and `/metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deploy.serving.context import Serving

__all__ = ["status_router"]


def status_router(serving: Serving) -> APIRouter:
    """The routes over ``serving``."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "live"}

    @router.get("/ready")
    async def ready() -> dict[str, Any]:
        """Whether it can answer."""
        return {"status": "ready", "model": serving.models.current.identity}

    @router.get("/model")
    async def describe() -> dict[str, Any]:
        """The card of the model that answers."""
        return serving.models.current.describe()

    @router.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
