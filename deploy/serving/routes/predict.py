"""Routes `POST /predict` and `POST /explain`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from deploy.http.uploads import read_upload
from deploy.serving.models.entries import RequestKeys
from deploy.serving.models.service import PredictionRequest
from deploy.serving.options import option_names
from deploy.serving.routes.context import Serving
from deploy.serving.routes.deadline import DEADLINE_HEADER, Deadline, NoDeadline
from deploy.serving.routes.openapi import IMAGE_BODY, explain_responses, predict_responses
from deploy.serving.routes.schemas import ModelName, predict_response
from visionops.inference.explain import DEFAULT_GRID
from visionops.monitoring.sources import SOURCE_HEADER

__all__ = ["options_reader", "predict_router", "request_keys", "request_source"]

_DEADLINE = DEADLINE_HEADER.lower().encode()
_Grid = Annotated[int, Query(ge=2, le=16)]
_Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]


def predict_router(serving: Serving) -> APIRouter:
    """Return the prediction routes over ``serving``."""
    router, options_of_task = APIRouter(), Depends(options_reader())

    async def predict(
        request: Request, model: ModelName = "", options: dict[str, float] = options_of_task, deadline: Deadline = None
    ) -> Response:
        """Predict one image; the answer depends on the model's task. Only a detector takes `conf` and `iou`."""
        served = serving.models.get(model)
        serving.dispatcher.check(deadline, served.digest)
        limit = served.ref.max_upload_bytes
        del served
        # The model is chosen after the image has arrived, so that a slow upload does not keep a replaced model alive.
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

    router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        route_class_override=_Predict,
        response_model=predict_response(),
        responses=predict_responses(),
        openapi_extra=IMAGE_BODY,
    )

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
        format: Literal["png", "json"] | None = None,  # noqa: A002 - name of the query parameter
    ) -> Response:
        """Explain the answer for one image by covering one part of it after another.

        Returns a picture, or the numbers with `format=json` or `Accept: application/json`. Takes as long as `grid` x
        `grid` predictions, one request at a time. Only a detector takes `conf` and `iou`.
        """
        data = await read_upload(request, serving.models.get(model).ref.max_upload_bytes)
        served = serving.models.get(model)
        as_json = format == "json" or (format is None and _wants_json(request.headers.get("accept", "")))
        response = await serving.explainer.respond(served, data, options, grid, as_json=as_json)
        request.state.log = {"model": served.ref.name, "version": served.ref.version, "bytes": len(data)}
        return response

    return router


class _Predict(APIRoute):
    """Route of `/predict`, which passes on a request without parameters at once.

    FastAPI spends 0.15 ms of the event loop on finding no parameter, which is a third of a small request's Python.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_plain = scope["method"] == "POST" and not scope["query_string"]
        if not is_plain or any(name == _DEADLINE for name, _ in scope["headers"]):
            await super().handle(scope, receive, send)
            return
        response = await self.endpoint(Request(scope, receive, send), options={})
        await response(scope, receive, send)


def request_keys(request: HTTPConnection) -> RequestKeys:
    """Return the keys that decide whether a canary answers; the same key always gets the same model."""
    state, own = request.state, request.headers.get("x-request-key", "")
    request_id: str = getattr(state, "request_id", "")
    client: str = getattr(state, "key", "") or request_id
    return RequestKeys(key=own or client, request=own or request_id)


def request_source(request: HTTPConnection) -> str:
    """Return the source that a request names, unchecked; "" for none. It does not change the answer."""
    return ",".join(request.headers.getlist(SOURCE_HEADER))


def options_reader() -> Callable[..., Awaitable[dict[str, float]]]:
    """Return a dependency that reads the options of all registered tasks from the query string."""
    names = option_names()

    async def read(**given: float | None) -> dict[str, float]:
        return {option: value for name, option in names.items() if (value := given[name]) is not None}

    shown = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Share) for name in names]
    # FastAPI reads the parameters from the signature.
    read.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return read


def _wants_json(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "application/json" in kinds and not kinds & {"image/png", "image/*"}
