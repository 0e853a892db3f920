"""Build the HTTP application of the control service, and map errors to responses."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from deploy.control.access import PROBES, ROLES
from deploy.control.routes.context import Control
from deploy.control.routes.review import review_router
from deploy.control.routes.runs import runs_router
from deploy.control.routes.similar import similar_router
from deploy.control.routes.status import status_router
from deploy.control.runs.runner import Runner
from deploy.http.body_limits import BodyLimits
from deploy.http.error_responses import refusal, refusal_of
from deploy.http.errors import first_problem, status_and_code
from deploy.http.gate import Gate, Routes
from deploy.http.heads import Heads
from deploy.http.parameters import refuse_unknown_parameters
from deploy.http.rates import RateLimit
from deploy.http.request_log import RequestLog
from visionops import __version__
from visionops.errors import VisionOpsError
from visionops.runs.states import CoolingDown

__all__ = ["create_app"]

_BODY_MEMORY = 128_000_000
"""Largest total of all request bodies being processed, in bytes."""
_KEYS = {
    "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            document.setdefault("components", {})["securitySchemes"] = _KEYS
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    needs_key = bool(ROLES[f"{method.upper()} {path}"])
                    operation["security"] = [{name: []} for name in _KEYS] if needs_key else []
            self.openapi_schema = document
        return self.openapi_schema


def create_app(control: Control, runner: Runner | None = None) -> FastAPI:
    """Return the application of one process; ``runner`` runs while it serves."""
    options, metrics = control.options, control.metrics

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        if runner is not None:
            runner.start()
        yield
        if runner is not None:
            runner.close()

    app = _Application(
        title="VisionOps control",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    app.state.control = control
    # The middleware added last handles a request first.
    app.add_middleware(BodyLimits, seconds=options.upload_timeout, memory=_BODY_MEMORY, metrics=metrics)
    app.add_middleware(
        Gate,
        keys=control.keys,
        routes=Routes(ROLES, PROBES, {"/metrics"} if options.open_metrics else ()),
        metrics=metrics,
        rate=RateLimit(options.rate) if options.rate else None,
        origins=options.cors_origins,
    )
    if options.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "X-API-Key"],
            expose_headers=["ETag", "Location", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(Heads)
    app.add_middleware(RequestLog, metrics=metrics, probes=PROBES)
    _map_errors(app, control)
    for router in (status_router, runs_router, review_router, similar_router):
        app.include_router(router(control))
    return app


def _map_errors(app: FastAPI, control: Control) -> None:
    def note(request: Request, code: str) -> None:
        control.metrics.rejected(code)
        request.state.log = {"code": code}

    @app.exception_handler(VisionOpsError)
    async def ours(request: Request, error: VisionOpsError) -> JSONResponse:
        note(request, status_and_code(error)[1])
        answer = refusal(request.url.path, error)
        if isinstance(error, CoolingDown):
            answer.headers["Retry-After"] = str(math.ceil(error.seconds))
        return answer

    @app.exception_handler(RequestValidationError)
    async def parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        note(request, "bad_parameter")
        return refusal_of(request.url.path, 422, "bad_parameter", first_problem(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        note(request, code)
        message = f"{request.method} {request.url.path}: {error.detail}"
        return refusal_of(request.url.path, error.status_code, code, message, error.headers)
