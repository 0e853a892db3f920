"""The HTTP application: `POST /predict /explain`, `GET /health /ready /model /metrics`, `POST /reload`."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Base64Bytes, BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException

from deploy.serving.errors import (
    BadRequest,
    Busy,
    ReloadDisabled,
    WrongKey,
    status_and_code,
)
from deploy.serving.explaining import Explainer
from deploy.serving.logs import RequestLog
from deploy.serving.metrics import Metrics
from deploy.serving.models import ModelSlot, ServedModel, load_model
from deploy.serving.settings import ADMIN_KEY_VARIABLE, ModelRef, Settings
from deploy.serving.uploads import read_body, read_upload
from visionops.errors import VisionOpsError
from visionops.inference.explain import DEFAULT_GRID

__all__ = ["ExplainResponse", "PredictResponse", "ReloadRequest", "create_app"]

_log = logging.getLogger("visionops.serving")
_MAX_RELOAD_BYTES = 64_000_000
_Grid = Annotated[int, Query(ge=2, le=16)]
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


class Label(BaseModel):
    """The answer to one question about the image."""

    class_id: int
    class_name: str
    confidence: float = Field(description="probability of the class answered")
    probabilities: dict[str, float]


class Timing(BaseModel):
    """Milliseconds."""

    decode: float
    preprocess: float
    inference: float
    postprocess: float
    total: float


class _Answer(BaseModel):
    model: ModelIdentity
    image: ImageSize
    timing_ms: Timing


class DetectionAnswer(_Answer):
    """What a detector answers."""

    detections: list[Detection]


class ClassificationAnswer(_Answer):
    """What a classifier answers."""

    classification: Label


class AttributesAnswer(_Answer):
    """What a model of several attributes answers."""

    attributes: dict[str, Label]


PredictResponse = DetectionAnswer | ClassificationAnswer | AttributesAnswer
"""What `/predict` answers."""


class SaliencyGrid(BaseModel):
    """Where the answer comes from."""

    box: tuple[float, float, float, float] = Field(description="what the grid covers: x1, y1, x2, y2 in pixels")
    grid: list[list[float]] = Field(
        description="rows from the top: by how much the log-odds of the answer fall when the patch there is covered"
    )


class TotalTime(BaseModel):
    """Milliseconds."""

    total: float


class ExplainResponse(BaseModel):
    """What `/explain` answers as JSON; beside it stands the answer itself, as `/predict` has it."""

    model: ModelIdentity
    image: ImageSize
    detections: list[Detection] | None = None
    classification: Label | None = None
    attributes: dict[str, Label] | None = None
    saliency: SaliencyGrid
    timing_ms: TotalTime


class ReloadRequest(ModelRef):
    """Which model to switch to."""

    smoke: tuple[Base64Bytes, ...] = Field(default=(), max_length=16)
    """Encoded images that the new model must answer before it gets traffic."""


_IDENTITY = {
    "model": {"name": "steel", "version": "3", "alias": "champion"},
    "image": {"width": 200, "height": 200},
}
_TIMING = {"timing_ms": {"decode": 0.8, "preprocess": 0.6, "inference": 14.2, "postprocess": 0.1, "total": 15.9}}
_LABEL = {"class_id": 1, "class_name": "defective", "confidence": 0.97}
_LABEL |= {"probabilities": {"ok": 0.03, "defective": 0.97}}
_BOX = {"class_id": 2, "class_name": "scratches", "confidence": 0.91, "box": [12.0, 40.5, 180.2, 66.0]}
_EXAMPLES = {
    "detection": {"value": _IDENTITY | {"detections": [_BOX]} | _TIMING},
    "classification": {"value": _IDENTITY | {"classification": _LABEL} | _TIMING},
    "attributes": {"value": _IDENTITY | {"attributes": {"surface": _LABEL}} | _TIMING},
}
_PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"examples": _EXAMPLES}}}}
_EXPLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ExplainResponse,
        "description": "The image in grey, in colour what spoke for the answer; or the numbers.",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
    503: {"description": "No model, or another image is being explained: see the header Retry-After."},
}
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
    explainer = Explainer()
    one_reload = asyncio.Lock()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        pool.shutdown()
        explainer.close()

    app = FastAPI(title="VisionOps", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(RequestLog, metrics=metrics)
    _map_errors(app, metrics)

    @app.post("/predict", response_model=PredictResponse, responses=_PREDICT_RESPONSES, openapi_extra=_FORM)
    async def predict(request: Request, conf: _Share = None, iou: _Share = None) -> JSONResponse:
        """Answer for one image, as the model's task has it. Only a detector takes `conf` and `iou`."""
        served = slot.current
        data = await read_upload(request, served.ref.max_upload_bytes)
        loop = asyncio.get_running_loop()
        answer, found = await loop.run_in_executor(pool, _answer, served, metrics, data, _options(conf, iou))
        request.state.log = {"version": served.ref.version, "bytes": len(data), "found": found}
        return JSONResponse(answer)

    @app.post("/explain", response_class=Response, responses=_EXPLAIN_RESPONSES, openapi_extra=_FORM)
    async def explain(
        request: Request,
        conf: _Share = None,
        iou: _Share = None,
        grid: _Grid = DEFAULT_GRID,
        format: Literal["png", "json"] | None = None,  # noqa: A002 - as it stands in the address
    ) -> Response:
        """Where the answer for one image comes from, by covering one part of it after another.

        A picture, or with `format=json` or `Accept: application/json` the numbers. Takes as long as `grid` x `grid`
        answers; one at a time. Only a detector takes `conf` and `iou`.
        """
        served = slot.current
        data = await read_upload(request, served.ref.max_upload_bytes)
        as_json = format == "json" or (format is None and _wants_json(request.headers.get("accept", "")))
        response = await explainer.respond(served, data, _options(conf, iou), grid, as_json=as_json)
        request.state.log = {"version": served.ref.version, "bytes": len(data)}
        return response

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
    served: ServedModel, metrics: Metrics, data: bytes, options: dict[str, float]
) -> tuple[dict[str, Any], int]:
    """The body, and how many boxes or labels it holds."""
    start = time.perf_counter()
    timing: dict[str, float] = {}
    prediction = served.predictor.predict(data, options, timing=timing, where="upload")
    metrics.prediction(prediction, timing)
    found = prediction.to_dict()
    timing["total"] = (time.perf_counter() - start) * 1000
    body = {
        "model": served.identity,
        "image": {"width": prediction.width, "height": prediction.height},
        **found,
        "timing_ms": {stage: round(ms, 3) for stage, ms in timing.items()},
    }
    return body, len(prediction.labels())


def _options(conf: float | None, iou: float | None) -> dict[str, float]:
    return {name: value for name, value in (("confidence", conf), ("iou", iou)) if value is not None}


def _wants_json(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "application/json" in kinds and not kinds & {"image/png", "image/*"}


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
    def refuse(
        request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> JSONResponse:
        route = getattr(request.scope.get("route"), "path", "")
        if route in {"/predict", "/explain"}:
            metrics.rejected(code)
        request.state.log = {"code": code}
        return JSONResponse({"error": {"code": code, "message": message}}, status_code=status, headers=headers)

    @app.exception_handler(VisionOpsError)
    async def ours(request: Request, error: VisionOpsError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, Busy) else None
        return refuse(request, *status_and_code(error), str(error), headers)

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
