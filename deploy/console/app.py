"""Build the console as an ASGI application: NiceGUI's pages and our own routes behind one access check."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from nicegui import ui
from starlette.requests import Request

from deploy.console.cards import cards_router
from deploy.console.context import Console
from deploy.console.gate import CONTENT_POLICY, Gate
from deploy.console.images import images_router
from deploy.console.login import login_router
from deploy.console.pages import data, models, monitoring, overview, predict, review, search, training, users
from deploy.console.predictions import predictions_router
from deploy.console.review_routes import review_router
from deploy.console.search_export import export_router
from deploy.console.sessions import sessions_router
from deploy.console.status import status_router
from deploy.console.thumbnails import thumbnails_router
from deploy.control.runs.runner import Runner
from deploy.http.error_responses import refusal
from deploy.http.heads import Heads
from deploy.http.pages import FAVICON
from deploy.http.request_log import SECURITY_HEADERS, RequestLog
from visionops import __version__
from visionops.errors import VisionOpsError

__all__ = ["create_app"]

_STATIC = Path(__file__).parent / "static"
_HEADERS = (
    *(header for header in SECURITY_HEADERS if header[0] != b"content-security-policy"),
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
)
_HTTPS_ALONE = (b"strict-transport-security", b"max-age=31536000")
_PROBES = frozenset({"/live", "/ready", "/metrics", "/_nicegui"})
_PAGES = (overview, predict, review, search, data, training, models, monitoring, users)
"""Page modules; each has `register(console)`, which adds its pages."""


def create_app(console: Console, runner: Runner | None = None) -> FastAPI:
    """Return the application; a process can have only one, because NiceGUI's own is global.

    Args:
        runner: Runner of the queue, which runs while the application serves.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        if runner is not None:
            runner.start()
        yield
        if runner is not None:
            runner.close()

    app = FastAPI(
        title="VisionOps console",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    # The middleware added last handles a request first.
    app.add_middleware(Gate, console=console)
    app.add_middleware(Heads)
    app.add_middleware(
        RequestLog,
        metrics=console.metrics,
        probes=frozenset({"/live", "/ready", "/metrics", "/_nicegui"}),
        security=_HEADERS if not console.options.is_https else (*_HEADERS, _HTTPS_ALONE),
    )

    @app.exception_handler(VisionOpsError)
    async def ours(request: Request, error: VisionOpsError) -> JSONResponse:
        return refusal(request.url.path, error)

    for router in (
        status_router,
        login_router,
        sessions_router,
        images_router,
        thumbnails_router,
        review_router,
        export_router,
        predictions_router,
        cards_router,
    ):
        app.include_router(router(console))
    if console.options.oidc_issuer:
        from deploy.console.oidc import oidc_app

        app.mount("/login/oidc", oidc_app(console))
    for page in _PAGES:
        page.register(console)
    ui.run_with(
        app,
        title="VisionOps",
        favicon=FAVICON,
        dark=None,
        language="en-US",
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=30,
    )
    return app
