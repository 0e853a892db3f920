"""Routes `GET /health`, `/ready`, `/models`, `/model`, `/release` and `/metrics`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from deploy.serving.errors import NoModel
from deploy.serving.models.registry import Models
from deploy.serving.routes.context import Serving
from deploy.serving.routes.openapi import (
    HEALTH_RESPONSES,
    METRICS_RESPONSES,
    MODEL_RESPONSES,
    MODELS_RESPONSES,
    READY_RESPONSES,
    RELEASE_RESPONSES,
)
from deploy.serving.routes.schemas import HealthAnswer, ModelAnswer, ModelName, NameStatus, ReadyModel
from visionops.inference.release_report import ReleaseReport

__all__ = ["status_router"]


def status_router(serving: Serving) -> APIRouter:
    """Return the status routes over ``serving``."""
    router = APIRouter()

    @router.get("/health", response_model=HealthAnswer, responses=HEALTH_RESPONSES)
    async def health() -> dict[str, str]:
        """Return that the process is running."""
        return {"status": "live"}

    @router.get("/ready", response_model=ReadyModel, response_model_exclude_unset=True, responses=READY_RESPONSES)
    async def ready(request: Request, model: ModelName = "") -> dict[str, Any]:
        """Return whether any model is ready, or with `model`, whether that one is.

        Only authenticated clients see which model is ready, why others failed, and which clients are accepted.
        """
        models = serving.models
        name = model or next((name for name in models.names() if models.is_ready(name)), "")
        if not request.state.known:
            if not models.is_ready(name):
                raise NoModel("no model is ready")
            return {"status": "ready"}
        served = models.get(name)
        return {
            "status": "ready",
            "model": served.identity,
            "models": [_readiness(models, name) for name in models.names()],
            "serves": serving.keys.serves,
            **serving.recorder.status(),
            **serving.feedback.status(),
        }

    @router.get("/model", response_model=ModelAnswer, response_model_exclude_unset=True, responses=MODEL_RESPONSES)
    async def describe(model: ModelName = "") -> dict[str, Any]:
        """Return the model's card, and the roles of its name."""
        served = serving.models.get(model)
        return served.describe() | serving.models.status(served.ref.name)

    @router.get(
        "/models", response_model=list[NameStatus], response_model_exclude_unset=True, responses=MODELS_RESPONSES
    )
    async def models() -> list[dict[str, Any]]:
        """Return all names with their roles and last errors."""
        return [serving.models.status(name) for name in serving.models.names()]

    @router.get("/release", response_model=ReleaseReport, responses=RELEASE_RESPONSES)
    async def release(model: ModelName = "") -> ReleaseReport:
        """Return the results of candidate and champion in this process since the hold of the release began."""
        return serving.models.release(model)

    @router.get("/metrics", response_class=Response, responses=METRICS_RESPONSES)
    async def scrape() -> Response:
        """Return the metrics for Prometheus."""
        return Response(serving.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _readiness(models: Models, name: str) -> dict[str, Any]:
    status = models.status(name)
    failure = {"last_failure": status["last_failure"]} if status["last_failure"] else {}
    return {"name": name, "ready": status["ready"], **failure}
