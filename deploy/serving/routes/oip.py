"""Routes of the Open Inference Protocol, version 2, over HTTP: `/v2` and below."""

from __future__ import annotations

import functools
from typing import Any

from fastapi import APIRouter, Request, Response

from deploy.http.errors import UnsupportedMedia
from deploy.http.uploads import read_body
from deploy.serving.errors import BadTensor
from deploy.serving.models.models import ServedModel
from deploy.serving.models.registry import Models
from deploy.serving.models.service import PredictionRequest
from deploy.serving.routes.context import Serving
from deploy.serving.routes.deadline import Deadline
from deploy.serving.routes.openapi import (
    INFER_BODY,
    INFER_RESPONSES,
    V2_METADATA_RESPONSES,
    V2_MODEL_RESPONSES,
    V2_PROBE_RESPONSES,
    V2_RESPONSES,
)
from deploy.serving.routes.predict import request_keys, request_source
from deploy.serving.routes.schemas import (
    InferResponse,
    LiveAnswer,
    ModelMetadata,
    ModelReadyAnswer,
    ReadyAnswer,
    ServerMetadata,
)
from deploy.serving.routes.tensors import (
    HEADER_LENGTH,
    INPUTS,
    Order,
    encode_answer,
    read_order,
)
from visionops import __version__
from visionops.inference.task import TensorSpec
from visionops.inference.task_registry import served_task

__all__ = ["oip_router"]

_SMALL = 65_536
"""Largest JSON in bytes that is parsed on the event loop; a larger one is parsed on a thread."""
_READING = "tensors"
"""Kind of job of this parsing, for the dispatcher."""


def oip_router(serving: Serving) -> APIRouter:
    """Return the routes of the protocol over ``serving``."""
    router = APIRouter(prefix="/v2")

    @router.get("", response_model=ServerMetadata, responses=V2_RESPONSES)
    async def server() -> dict[str, Any]:
        """Return name, version and extensions of the server."""
        return {"name": "visionops", "version": __version__, "extensions": ["binary_tensor_data"]}

    @router.get("/health/live", response_model=LiveAnswer, responses=V2_PROBE_RESPONSES)
    async def live() -> dict[str, bool]:
        """Return that the process is running."""
        return {"live": True}

    @router.get("/health/ready", response_model=ReadyAnswer, responses=V2_PROBE_RESPONSES)
    async def ready() -> dict[str, bool]:
        """Return whether a model is ready."""
        models = serving.models
        models.get(next((name for name in models.names() if models.is_ready(name)), ""))
        return {"ready": True}

    @router.get("/models/{name}", response_model=ModelMetadata, responses=V2_METADATA_RESPONSES)
    async def model(name: str) -> dict[str, Any]:
        """Return the inputs and outputs of the model; a request has one of the inputs."""
        return _metadata(serving.models, name)

    @router.get("/models/{name}/versions/{version}", response_model=ModelMetadata, responses=V2_METADATA_RESPONSES)
    async def model_version(name: str, version: str) -> dict[str, Any]:
        """Return the inputs and outputs of one version of the model."""
        return _metadata(serving.models, name, version)

    @router.get("/models/{name}/ready", response_model=ModelReadyAnswer, responses=V2_MODEL_RESPONSES)
    async def model_ready(name: str) -> dict[str, Any]:
        """Return whether the model is ready."""
        return {"name": serving.models.get(name).ref.name, "ready": True}

    @router.get(
        "/models/{name}/versions/{version}/ready", response_model=ModelReadyAnswer, responses=V2_MODEL_RESPONSES
    )
    async def model_version_ready(name: str, version: str) -> dict[str, Any]:
        """Return whether this version is ready."""
        return {"name": serving.models.get(name, version).ref.name, "ready": True}

    infer_route = functools.partial(
        router.post, response_model=InferResponse, responses=INFER_RESPONSES, openapi_extra=INFER_BODY
    )

    @infer_route("/models/{name}/infer")
    async def infer(request: Request, name: str, deadline: Deadline = None) -> Response:
        """Predict one or more images and return tensors; an unusable image fails the request."""
        return await _infer(serving, request, deadline, name)

    @infer_route("/models/{name}/versions/{version}/infer")
    async def infer_version(request: Request, name: str, version: str, deadline: Deadline = None) -> Response:
        """Predict one or more images with one version of the model."""
        return await _infer(serving, request, deadline, name, version)

    return router


def _metadata(models: Models, name: str, version: str = "") -> dict[str, Any]:
    served = models.get(name, version)
    return {
        "name": served.ref.name,
        "versions": list(dict.fromkeys(model.ref.version for _, model in models.all() if model.ref.name == name)),
        "platform": f"{served.ref.engine.value}_onnx",
        "inputs": INPUTS,
        "outputs": _outputs(served),
    }


def _outputs(served: ServedModel) -> list[TensorSpec]:
    card = served.predictor.bundle.card
    return served_task(card.task).tensor_specs(card)


async def _infer(serving: Serving, request: Request, deadline: float | None, name: str, version: str = "") -> Response:
    if encoding := request.headers.get("content-encoding", ""):
        raise UnsupportedMedia(f"content encoding {encoding[:20]!r}; send the body without encoding")
    serving.dispatcher.check(deadline, serving.models.get(name, version).digest)
    body = await read_body(request, serving.settings.max_batch_bytes, setting="max_batch_bytes")
    read = functools.partial(read_order, body, request.headers.get(HEADER_LENGTH), serving.settings.max_batch_files)
    order = read() if len(body) <= _SMALL else await serving.dispatcher.run(read, deadline=deadline, kind=_READING)
    # The model is chosen after the body has arrived, as in /predict.
    choice = serving.models.choose(name, version, request_keys(request))
    wanted = PredictionRequest(choice, order.options, request.state.request_id, request_source(request), deadline)
    served, answers = await serving.predictions.predict_together(
        wanted, order.images, functools.partial(_check_outputs, order)
    )
    card = served.predictor.bundle.card
    tensors = served_task(card.task).tensors(card, [answer.prediction for answer in answers])
    content, length = encode_answer(served.identity, order, _outputs(served), tensors)
    request.state.log = {
        "model": served.ref.name,
        "version": served.ref.version,
        "bytes": len(body),
        "images": len(answers),
    }
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(length)})


def _check_outputs(order: Order, served: ServedModel) -> None:
    names = [spec.name for spec in _outputs(served)]
    if unknown := sorted(set(order.outputs or ()) - set(names)):
        raise BadTensor(f"no output {unknown[0][:100]!r}; this model has {', '.join(names)}")
