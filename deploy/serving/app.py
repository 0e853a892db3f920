"""The HTTP application: `POST /predict`, `GET /health /ready /model /metrics`, `POST /reload`."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Base64Bytes, BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from deploy.serving.errors import (
    BadRequest,
    ReloadDisabled,
    WrongKey,
    status_and_code,
)
from deploy.serving.logs import RequestLog
from deploy.serving.metrics import Metrics
from deploy.serving.models import ModelSlot, ServedModel, load_model
from deploy.serving.settings import ADMIN_KEY_VARIABLE, ModelRef, Settings
from deploy.serving.uploads import read_body, read_upload
from visionops.errors import VisionOpsError

__all__ = ["PredictResponse", "ReloadRequest", "create_app"]

_log = logging.getLogger("visionops.serving")
_MAX_RELOAD_BYTES = 64_000_000
_Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]


class ModelIdentity(BaseModel):
    """Which model answered."""

    name: str
    version: str
    alias: str


class ImageSize(BaseModel):
    """Pixels after EXIF rotation."""

    width: int
    height: int


class Detection(BaseModel):
    """One found object."""

    class_id: int
    class_name: str
    confidence: float
    box: tuple[float, float, float, float] = Field(description="x1, y1, x2, y2 in pixels of the image")


class Timing(BaseModel):
    """Milliseconds."""

    decode: float
    preprocess: float
    inference: float
    postprocess: float
    total: float


class PredictResponse(BaseModel):
    """What `/predict` answers."""

    model: ModelIdentity
    image: ImageSize
    detections: list[Detection]
    timing_ms: Timing


class ReloadRequest(ModelRef):
    """Which model to switch to."""

    smoke: tuple[Base64Bytes, ...] = Field(default=(), max_length=16)
    """Encoded images that the new model must answer before it gets traffic."""


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_RELOAD_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ReloadRequest.model_json_schema()}}}
}


def create_app(settings: Settings, model: ServedModel | None = None) -> FastAPI:
    """The application of one process.

    Args:
        model: What answers from the start; none: live, but not ready.
    """
    slot, metrics = ModelSlot(model), Metrics()
    if model is not None:
        metrics.model(model)
    pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="predict")
    one_reload = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        pool.shutdown()

    app = FastAPI(title="VisionOps", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(RequestLog, metrics=metrics)
    _map_errors(app, metrics)

    @app.post("/predict", response_model=PredictResponse, openapi_extra=_FORM)
    async def predict(request: Request, conf: _Share = None, iou: _Share = None) -> JSONResponse:
        """Detect in one image."""
        served = slot.current
        data = await read_upload(request, served.ref.max_upload_bytes)
        answer = await asyncio.get_running_loop().run_in_executor(pool, _answer, served, metrics, data, conf, iou)
        request.state.log = {"version": served.ref.version, "bytes": len(data), "found": len(answer["detections"])}
        return JSONResponse(answer)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "live"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """Whether it can answer."""
        return {"status": "ready", "model": slot.current.identity}

    @app.get("/model")
    async def describe() -> dict[str, Any]:
        """The card of the model that answers."""
        return slot.current.describe()

    @app.get("/metrics", include_in_schema=False)
    async def scrape() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/reload", openapi_extra=_RELOAD_BODY)
    async def reload(request: Request) -> dict[str, Any]:
        """Switch to another bundle, once it has loaded and passed its smoke test."""
        _check_key(settings, request.headers.get("x-api-key", ""))
        order = _parse_order(await read_body(request, _MAX_RELOAD_BYTES))
        async with one_reload:
            # Not in the pool of /predict: a loading model must not stand in line before requests.
            new = await asyncio.to_thread(_prove, order, settings.max_pixels)
            slot.swap(new)
            metrics.model(new)
        _log.info("model_switched", extra={"fields": new.identity | {"digest": new.digest}})
        return new.describe()

    return app


def _answer(
    served: ServedModel, metrics: Metrics, data: bytes, confidence: float | None, iou: float | None
) -> dict[str, Any]:
    start = time.perf_counter()
    timing: dict[str, float] = {}
    prediction = served.predictor.predict(data, confidence=confidence, iou=iou, timing=timing, where="upload")
    metrics.prediction(prediction, timing)
    detections = prediction.to_dicts()
    timing["total"] = (time.perf_counter() - start) * 1000
    return {
        "model": served.identity,
        "image": {"width": prediction.width, "height": prediction.height},
        "detections": detections,
        "timing_ms": {stage: round(ms, 3) for stage, ms in timing.items()},
    }


def _check_key(settings: Settings, offered: str) -> None:
    if settings.admin_key is None:
        raise ReloadDisabled(f"/reload needs a key and this server has none; start it with {ADMIN_KEY_VARIABLE} set")
    if not hmac.compare_digest(offered.encode(), settings.admin_key.get_secret_value().encode()):
        raise WrongKey("the key in header X-API-Key is missing or wrong")


def _parse_order(body: bytes) -> ReloadRequest:
    try:
        return ReloadRequest.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest(_first(error.errors(include_url=False)), "bad_reload") from error


def _prove(order: ReloadRequest, max_pixels: int) -> ServedModel:
    ref = ModelRef.model_validate(order.model_dump(exclude={"smoke"}))
    return load_model(ref, max_pixels=max_pixels, smoke_images=order.smoke)


def _map_errors(app: FastAPI, metrics: Metrics) -> None:
    def refuse(request: Request, status: int, code: str, message: str) -> JSONResponse:
        route = getattr(request.scope.get("route"), "path", "")
        if route == "/predict":
            metrics.rejected(code)
        request.state.log = {"code": code}
        return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)

    @app.exception_handler(VisionOpsError)
    async def ours(request: Request, error: VisionOpsError) -> JSONResponse:
        return refuse(request, *status_and_code(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        return refuse(request, 422, "bad_parameter", _first(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        return refuse(request, error.status_code, code, f"{request.method} {request.url.path}: {error.detail}")


def _first(errors: Any) -> str:
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
    return f"{place}: {first['msg']}" if place else str(first["msg"])
