"""Route `POST /predict/batch`."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from deploy.http.errors import status_and_code
from deploy.http.uploads import read_uploads
from deploy.serving.models.service import Answer, PredictionRequest, Refused
from deploy.serving.routes.context import Serving
from deploy.serving.routes.deadline import Deadline
from deploy.serving.routes.openapi import BATCH_BODY, batch_responses
from deploy.serving.routes.predict import options_reader, request_keys, request_source
from deploy.serving.routes.schemas import ModelName, batch_response

__all__ = ["batch_router"]


def batch_router(serving: Serving) -> APIRouter:
    """Return the batch route over ``serving``."""
    router, options_of_task = APIRouter(), Depends(options_reader())

    @router.post(
        "/predict/batch", response_model=batch_response(), responses=batch_responses(), openapi_extra=BATCH_BODY
    )
    async def predict_batch(
        request: Request, model: ModelName = "", options: dict[str, float] = options_of_task, deadline: Deadline = None
    ) -> Response:
        """Predict several images, in the order sent; an unusable image gets an error of its own.

        Images are computed in parallel. If the queue is full, or not all images are done within the time limit, the
        whole request gets 503: send it again after `Retry-After`.
        """
        serving.dispatcher.check(deadline, serving.models.get(model).digest)
        images = await read_uploads(request, serving.settings.max_batch_bytes, serving.settings.max_batch_files)
        choice = serving.models.choose(model, keys=request_keys(request))
        wanted = PredictionRequest(choice, options, request.state.request_id, request_source(request), deadline)
        answers = await serving.predictions.predict_each(wanted, images)
        failed = sum(not isinstance(answer, Answer) for answer in answers)
        request.state.log = {
            "model": choice.served.ref.name,
            "version": choice.served.ref.version,
            "bytes": sum(map(len, images)),
            "images": len(images),
            "failed": failed,
        }
        return Response(
            orjson.dumps({"results": [_result(answer) for answer in answers]}), media_type="application/json"
        )

    return router


def _result(answer: Answer | Refused) -> dict[str, Any] | orjson.Fragment:
    if isinstance(answer, Answer):
        return orjson.Fragment(answer.json)
    return {"error": {"code": status_and_code(answer)[1], "message": str(answer)}}
