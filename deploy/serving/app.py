"""Build the HTTP application: its routes over one set of models, and the mapping of errors to responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection

from deploy.http.body_limits import BodyLimits
from deploy.http.error_responses import refusal, refusal_of
from deploy.http.errors import first_problem, status_and_code
from deploy.http.gate import Gate, Routes
from deploy.http.heads import Heads
from deploy.http.keys import KeyRing
from deploy.http.parameters import refuse_unknown_parameters
from deploy.http.rates import RateLimit
from deploy.http.request_log import RequestLog
from deploy.serving.errors import DeadlineMissed
from deploy.serving.metrics import Metrics
from deploy.serving.middleware.access import PAGES, PROBES, ROLES
from deploy.serving.models.dispatcher import Dispatcher
from deploy.serving.models.feedback import open_feedback
from deploy.serving.models.hold import HoldFile
from deploy.serving.models.models import Loader
from deploy.serving.models.recording import open_recorder
from deploy.serving.models.registry import Models
from deploy.serving.models.service import PredictionService
from deploy.serving.models.startup import Started
from deploy.serving.routes.admin import admin_router
from deploy.serving.routes.batch import batch_router
from deploy.serving.routes.context import Serving
from deploy.serving.routes.explaining import Explainer
from deploy.serving.routes.feedback import feedback_router
from deploy.serving.routes.oip import oip_router
from deploy.serving.routes.openapi import document
from deploy.serving.routes.pages import pages_router
from deploy.serving.routes.predict import predict_router
from deploy.serving.routes.status import status_router
from deploy.serving.routes.stream import stream_router
from deploy.serving.settings import Settings
from visionops import __version__
from visionops.errors import VisionOpsError
from visionops.inference.engines import available_cpus

__all__ = ["create_app"]

_ROUTERS: Mapping[str, tuple[Callable[[Serving], APIRouter], ...]] = {
    "Prediction": (predict_router, batch_router, stream_router),
    "Feedback": (feedback_router,),
    "Status": (pages_router, status_router),
    "Administration": (admin_router,),
    "Open Inference Protocol": (oip_router,),
}
"""Routers by their heading in the OpenAPI document."""


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = document(self)
        return self.openapi_schema


def create_app(settings: Settings, started: Sequence[Started] = (), loader: Loader | None = None) -> FastAPI:
    """Return the application of one process.

    Args:
        started: Models that are served from the start; without any, the server is live but not ready.
        loader: Loader of these models and of later ones.
    """
    metrics = Metrics()
    models = Models(metrics, HoldFile(settings.cache / "release.json" if settings.cache else None))
    dispatcher = Dispatcher(settings.workers or 2 * available_cpus(), settings.queue, settings.timeout)
    keys = KeyRing(
        settings.keys, _revealed(settings.api_keys), _revealed(settings.admin_key), on_read=metrics.keys_read
    )
    recorder = open_recorder(settings, metrics)
    serving = Serving(
        settings=settings,
        models=models,
        loader=loader or Loader(settings),
        metrics=metrics,
        dispatcher=dispatcher,
        explainer=Explainer(),
        keys=keys,
        recorder=recorder,
        predictions=PredictionService(models, dispatcher, recorder, metrics),
        feedback=open_feedback(settings, metrics),
    )
    metrics.watch_queue(lambda: dispatcher.waiting)
    models.watch_modes()
    for each in started:
        each.enter(serving.models)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        serving.loader.ready(lambda: dispatcher.waiting)
        yield
        serving.loader.close()
        serving.dispatcher.close()
        serving.explainer.close()
        serving.recorder.close()
        serving.feedback.close()
        serving.models.close()

    app = _Application(
        title="VisionOps",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    app.state.serving = serving
    # The middleware added last handles a request first.
    opened = {
        path for path, is_open in (("/metrics", settings.open_metrics), ("/ready", settings.open_ready)) if is_open
    }
    app.add_middleware(
        BodyLimits, seconds=settings.upload_timeout, memory=settings.max_body_memory, metrics=serving.metrics
    )
    app.add_middleware(
        Gate,
        keys=serving.keys,
        routes=Routes(ROLES, PROBES, opened, PAGES),
        metrics=serving.metrics,
        rate=RateLimit(settings.rate) if settings.rate else None,
        origins=settings.cors_origins,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "Traceparent",
                "X-API-Key",
                "X-Deadline-Ms",
                "X-Request-ID",
                "X-Source",
            ],
            expose_headers=[
                "RateLimit-Limit",
                "RateLimit-Remaining",
                "RateLimit-Reset",
                "Retry-After",
                "Traceparent",
                "X-Request-ID",
            ],
        )
    app.add_middleware(Heads)
    app.add_middleware(RequestLog, metrics=serving.metrics, probes=PROBES)
    _map_errors(app, serving.metrics)
    for tag, routers in _ROUTERS.items():
        for router in routers:
            app.include_router(router(serving), tags=[tag])
    return app


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _map_errors(app: FastAPI, metrics: Metrics) -> None:
    def note(request: HTTPConnection, code: str) -> None:
        if request.scope["type"] == "websocket" or request.scope["method"] == "POST":
            metrics.rejected(code)
        request.state.log = {"code": code}

    @app.exception_handler(VisionOpsError)
    async def ours(request: HTTPConnection, error: VisionOpsError) -> JSONResponse:
        note(request, status_and_code(error)[1])
        if isinstance(error, DeadlineMissed):
            metrics.deadline_missed(error.reason)
        return refusal(request.url.path, error)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(WebSocketRequestValidationError)
    async def parameter(request: HTTPConnection, error: ValidationException) -> JSONResponse:
        note(request, "bad_parameter")
        return refusal_of(request.url.path, 422, "bad_parameter", first_problem(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        note(request, code)
        message = f"{request.method} {request.url.path}: {error.detail}"
        return refusal_of(request.url.path, error.status_code, code, message, error.headers)
