"""`POST /predict` and `POST /explain`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response

from deploy.serving.context import Serving
from deploy.serving.models import ServedModel
from deploy.serving.openapi import EXPLAIN_RESPONSES, IMAGE_BODY, PREDICT_RESPONSES
from deploy.serving.registry import Choice
from deploy.serving.schemas import ModelName, PredictResponse
from deploy.serving.uploads import read_upload
from visionops.inference.explain import DEFAULT_GRID
from visionops.inference.prediction import Prediction

__all__ = ["options_of", "predict_router", "request_key"]

_Grid = Annotated[int, Query(ge=2, le=16)]
_Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]


def predict_router(serving: Serving) -> APIRouter:
    """The routes over ``serving``."""
    router = APIRouter()

    @router.post("/predict", response_model=PredictResponse, responses=PREDICT_RESPONSES, openapi_extra=IMAGE_BODY)
    async def predict(request: Request, model: ModelName = "", conf: _Share = None, iou: _Share = None) -> Response:
        """Answer for one image, as the model's task has it. Only a detector takes `conf` and `iou`."""
        serving.dispatcher.check()
        # The model is taken when the image is here: one that is replaced must not wait for who sends slowly.
        data = await read_upload(request, serving.models.get(model).ref.max_upload_bytes)
        choice = serving.models.choose(model, key=request_key(request))
        options = options_of(conf, iou)
        asked = time.perf_counter()
        body, served, prediction, timing = await serving.dispatcher.run(
            lambda: _answer(serving, choice, data, options, request.state.request_id)
        )
        queue_ms = (time.perf_counter() - asked) * 1000 - timing["total"]
        serving.metrics.prediction(served.ref.name, prediction, timing, queue_ms)
        request.state.log = {
            "model": served.ref.name,
            "version": served.ref.version,
            "bytes": len(data),
            "found": len(prediction.labels()),
            "queue_ms": round(queue_ms, 2),
            "inference_ms": round(timing["inference"], 2),
        }
        return Response(body, media_type="application/json")

    @router.post("/explain", response_class=Response, responses=EXPLAIN_RESPONSES, openapi_extra=IMAGE_BODY)
    async def explain(
        request: Request,
        model: ModelName = "",
        conf: _Share = None,
        iou: _Share = None,
        grid: _Grid = DEFAULT_GRID,
        format: Literal["png", "json"] | None = None,  # noqa: A002 - as it stands in the address
    ) -> Response:
        """Where the answer for one image comes from, by covering one part of it after another.

        A picture, or with `format=json` or `Accept: application/json` the numbers. Takes as long as `grid` x `grid`
        answers; one at a time. Only a detector takes `conf` and `iou`.
        """
        data = await read_upload(request, serving.models.get(model).ref.max_upload_bytes)
        served = serving.models.get(model)
        as_json = format == "json" or (format is None and _wants_json(request.headers.get("accept", "")))
        response = await serving.explainer.respond(served, data, options_of(conf, iou), grid, as_json=as_json)
        request.state.log = {"model": served.ref.name, "version": served.ref.version, "bytes": len(data)}
        return response

    return router


def request_key(request: Request) -> str:
    """What decides whether a canary answers: of one key, always the same model."""
    state = request.state
    return request.headers.get("x-request-key") or getattr(state, "key", "") or getattr(state, "request_id", "")


def options_of(conf: float | None, iou: float | None) -> dict[str, float]:
    """The parameters of a request as the predictor's options."""
    return {name: value for name, value in (("confidence", conf), ("iou", iou)) if value is not None}


def _answer(
    serving: Serving, choice: Choice, data: bytes, options: Mapping[str, float], request_id: str
) -> tuple[bytes, ServedModel, Prediction, dict[str, float]]:
    start = time.perf_counter()
    timing: dict[str, float] = {}
    seen = serving.recorder.eye()
    served, prediction = serving.models.predict(choice, data, options, timing=timing, watch=seen)
    timing["total"] = (time.perf_counter() - start) * 1000
    serving.recorder.keep([serving.recorder.record(data, seen, request_id, served, timing["total"])])
    return orjson.dumps(served.answer(prediction, timing)), served, prediction, timing


def _wants_json(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "application/json" in kinds and not kinds & {"image/png", "image/*"}
