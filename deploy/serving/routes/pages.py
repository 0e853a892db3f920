"""Routes `GET /` and `GET /docs`: pages for browsers, the same data as JSON, and the pages' files.

A page is a static file without data. Its script asks the user for a key if the server needs one, and reads the JSON
with it. Nothing is loaded from another server: Swagger UI is in the package `fastapi-offline`.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from deploy.http.pages import FAVICON
from deploy.serving.models.roles import ModelRole
from deploy.serving.routes.context import Serving
from deploy.serving.routes.openapi import HOME_RESPONSES, LINKS
from deploy.serving.routes.schemas import HomeAnswer
from visionops import __version__

__all__ = ["CONTENT_POLICY", "pages_router"]

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of the pages. `data:` is for the icons in Swagger UI's style sheet."""

_OWN = Path(__file__).parents[1] / "pages"
_SCRIPT, _STYLE = "text/javascript", "text/css"


def pages_router(serving: Serving) -> APIRouter:
    """Return the routes of the pages over ``serving``."""
    router = APIRouter()
    swagger = Path(str(files("fastapi_offline"))) / "static"

    @router.get("/", response_model=HomeAnswer, response_model_exclude_none=True, responses=HOME_RESPONSES)
    async def home(request: Request) -> Any:
        """Return the served models and their results; a browser gets a page that shows them and predicts an image.

        The page itself has no data and needs no key: it asks the user for one and sends it with each request.
        """
        if request.state.page:
            return _page(request, "home.html")
        return JSONResponse(_facts(serving), headers={"Vary": "Accept"})

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        """Return Swagger UI to a browser, and the OpenAPI document as JSON to other clients."""
        if request.state.page:
            return _page(request, "docs.html")
        return JSONResponse(request.app.openapi(), headers={"Vary": "Accept"})

    def asset(address: str, path: Path, kind: str) -> None:
        async def answer(request: Request) -> Response:
            request.state.cache_control = "no-cache"
            return _file(request, path, kind)

        router.add_api_route(address, answer, include_in_schema=False)

    asset("/favicon.ico", FAVICON, "image/svg+xml")
    for name in ("access.js", "docs.js", "home.js"):
        asset(f"/assets/{name}", _OWN / name, _SCRIPT)
    asset("/assets/page.css", _OWN / "page.css", _STYLE)
    asset("/assets/swagger-ui.css", swagger / "swagger-ui.css", _STYLE)
    asset("/assets/swagger-ui.js", swagger / "swagger-ui-bundle.js", _SCRIPT)
    return router


def _page(request: Request, name: str) -> Response:
    request.state.content_policy = CONTENT_POLICY
    request.state.cache_control = "no-cache"
    response = _file(request, _OWN / name, "text/html")
    response.headers["Vary"] = "Accept"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _file(request: Request, path: Path, kind: str) -> Response:
    """Return a file of the package; 304 to a browser that has it already."""
    response = FileResponse(path, media_type=kind, stat_result=path.stat())
    etag = response.headers["etag"]
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"etag": etag})
    return response


def _facts(serving: Serving) -> dict[str, Any]:
    counts = _Counts(serving)
    return {
        "name": "VisionOps",
        "version": __version__,
        "started": serving.started.isoformat(timespec="seconds"),
        "serves": serving.keys.serves,
        "models": [_model(serving, name, counts) for name in serving.models.names()],
        "waiting": serving.dispatcher.waiting,
        "rejected": counts.rejected,
        "links": LINKS | ({"source": serving.settings.source_url} if serving.settings.source_url else {}),
    }


def _model(serving: Serving, name: str, counts: _Counts) -> dict[str, Any]:
    status = serving.models.status(name)
    facts = {key: status[key] for key in ("name", "default", "ready")}
    champions = (model for role, model in serving.models.all() if role is ModelRole.CHAMPION and model.ref.name == name)
    if champion := next(champions, None):
        card = champion.describe()
        facts |= {key: card[key] for key in ("version", "alias", "task", "architecture", "classes", "max_upload_bytes")}
        if "thresholds" in card:
            facts["confidence"] = card["thresholds"]["confidence"]
        facts["since"] = champion.since.isoformat(timespec="seconds")
        facts["last_images"] = champion.record.summary()
    roles = status["roles"]
    facts["beside"] = {role: roles[role]["version"] for role in roles if role != ModelRole.CHAMPION}
    if failure := status["last_failure"]:
        facts["last_failure"] = failure
    return facts | counts.of(name)


class _Counts:
    """Counts since the server started, read once."""

    def __init__(self, serving: Serving) -> None:
        self.rejected: dict[str, int] = {}
        self._images: dict[tuple[str, str], int] = {}
        self._found: dict[str, dict[str, int]] = {}
        names = ("visionops_rejected_total", "visionops_model_images_total", "visionops_predictions_total")
        for sample in serving.metrics.samples(*names):
            labels, count = sample.labels, int(sample.value)
            if "reason" in labels:
                self.rejected[labels["reason"]] = count
            elif "outcome" in labels:
                key = labels["name"], labels["outcome"]
                self._images[key] = self._images.get(key, 0) + count
            else:
                self._found.setdefault(labels["model"], {})[labels["class"]] = count

    def of(self, name: str) -> dict[str, Any]:
        """Return the counts of one name."""
        return {
            "answered": self._images.get((name, "answered"), 0),
            "failed": self._images.get((name, "failed"), 0),
            "found": self._found.get(name, {}),
        }
