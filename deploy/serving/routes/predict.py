"""`POST /predict` and `POST /explain`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import HTTPConnection

from deploy.http.uploads import read_upload
from deploy.serving.models.entries import RequestKeys
from deploy.serving.models.service import PredictionRequest
from deploy.serving.options import option_names
from deploy.serving.routes.context import Serving
from deploy.serving.routes.deadline import Deadline, NoDeadline
from deploy.serving.routes.openapi import IMAGE_BODY, explain_responses, predict_responses
from deploy.serving.routes.schemas import ModelName, predict_response
from visionops.inference.explain import DEFAULT_GRID
from visionops.monitoring.sources import SOURCE_HEADER

__all__ = ["options_reader", "predict_router", "request_keys", "request_source"]

_Grid = Annotated[int, Query(ge=2, le=16)]
_Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]


def predict_router(serving: Serving) -> APIRouter:
    """The routes over ``serving``."""
    router, options_of_task = APIRouter(), Depends(options_reader())

    @router.post("/predict", response_model=predict_response(), responses=predict_responses(), openapi_extra=IMAGE_BODY)
    async def predict(
        request: Request, model: ModelName = "", options: dict[str, float] = options_of_task, deadline: Deadline = None
    ) -> Response:
        """Answer for one image, as the model's task has it. Only a detector takes `conf` and `iou`."""
        served = serving.models.get(model)
        serving.dispatcher.check(deadline, served.digest)
        limit = served.ref.max_upload_bytes
        del served
        # The model is taken when the image is here: one that is replaced must not wait for who sends slowly.
        data = await read_upload(request, limit)
        choice = serving.models.choose(model, keys=request_keys(request))
        wanted = PredictionRequest(choice, options, request.state.request_id, request_source(request), deadline)
        answer, queue_ms = await serving.predictions.predict(wanted, data)
        request.state.log = {
            "model": answer.served.ref.name,
            "version": answer.served.ref.version,
            "bytes": len(data),
            "found": len(answer.prediction.labels()),
            "queue_ms": round(queue_ms, 2),
            "inference_ms": round(answer.timing_ms["inference"], 2),
        }
        return Response(answer.json, media_type="application/json")

    @router.post(
        "/explain",
        response_class=Response,
        responses=explain_responses(),
        openapi_extra=IMAGE_BODY,
        dependencies=[NoDeadline],
    )
    async def explain(
        request: Request,
        model: ModelName = "",
        options: dict[str, float] = options_of_task,
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
        response = await serving.explainer.respond(served, data, options, grid, as_json=as_json)
        request.state.log = {"model": served.ref.name, "version": served.ref.version, "bytes": len(data)}
        return response

    return router


def request_keys(request: HTTPConnection) -> RequestKeys:
    """Return what decides whether a canary answers: of one key, always the same model."""
    state, own = request.state, request.headers.get("x-request-key", "")
    request_id: str = getattr(state, "request_id", "")
    client: str = getattr(state, "key", "") or request_id
    return RequestKeys(key=own or client, request=own or request_id)


def request_source(request: HTTPConnection) -> str:
    """Return the source that a request names, as it came; "" for none. No answer depends on it."""
    return ",".join(request.headers.getlist(SOURCE_HEADER))


def options_reader() -> Callable[..., Awaitable[dict[str, float]]]:
    """Return what reads the options of all registered tasks from the address of a request."""
    names = option_names()

    async def read(**given: float | None) -> dict[str, float]:
        return {option: value for name, option in names.items() if (value := given[name]) is not None}

    shown = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Share) for name in names]
    # FastAPI reads the parameters off it.
    read.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return read


def _wants_json(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "application/json" in kinds and not kinds & {"image/png", "image/*"}
