"""`GET /health`, `/ready`, `/models`, `/model` and `/metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deploy.serving.context import Serving
from deploy.serving.schemas import ModelName

__all__ = ["status_router"]


def status_router(serving: Serving) -> APIRouter:
    """The routes over ``serving``."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "live"}

    @router.get("/ready")
    async def ready(request: Request) -> dict[str, Any]:
        """Whether it can answer; with which model, and whom it serves, is for clients it knows."""
        model = serving.models.get().identity
        if not request.state.known:
            return {"status": "ready"}
        return {"status": "ready", "model": model, "serves": serving.keys.serves}

    @router.get("/model")
    async def describe(model: ModelName = "") -> dict[str, Any]:
        """The card of the model that answers."""
        return serving.models.get(model).describe()

    @router.get("/models")
    async def models() -> list[dict[str, str]]:
        """All that answer; the first where a request names none."""
        return [served.identity | {"digest": served.digest} for served in serving.models.all()]

    @router.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
