"""`POST /predict/batch`."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from deploy.serving.context import Serving
from deploy.serving.errors import ModelFailed, UploadTooLarge, status_and_code
from deploy.serving.openapi import BATCH_BODY, BATCH_RESPONSES
from deploy.serving.registry import Choice
from deploy.serving.routes.predict import options_of, request_key
from deploy.serving.schemas import BatchResponse, ModelName
from deploy.serving.uploads import read_uploads
from visionops.errors import ImageError, VisionOpsError
from visionops.inference.prediction import Prediction

__all__ = ["batch_router"]

_Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]
_Answered = tuple[orjson.Fragment, Prediction, dict[str, float]]


def batch_router(serving: Serving) -> APIRouter:
    """The routes over ``serving``."""
    router = APIRouter()

    @router.post("/predict/batch", response_model=BatchResponse, responses=BATCH_RESPONSES, openapi_extra=BATCH_BODY)
    async def predict_batch(
        request: Request, model: ModelName = "", conf: _Share = None, iou: _Share = None
    ) -> Response:
        """Answer for many images at once, in the order sent; one that cannot be used fails alone.

        They are computed side by side. Without a place in the queue, or when not all are done within the time limit,
        the whole request is refused (503): send it again, after `Retry-After`.
        """
        serving.models.get(model)
        serving.dispatcher.check()
        images = await read_uploads(request, serving.settings.max_batch_bytes, serving.settings.max_batch_files)
        choice = serving.models.choose(model, key=request_key(request))
        options = options_of(conf, iou)
        work = [
            functools.partial(_answer, serving, choice, data, options, number, request.state.request_id)
            for number, data in enumerate(images, start=1)
        ]
        answers = await serving.dispatcher.run_all(work)
        results: list[dict[str, Any] | orjson.Fragment] = []
        for answer in answers:
            if isinstance(answer, VisionOpsError):
                code = status_and_code(answer)[1]
                serving.metrics.rejected(code)
                results.append({"error": {"code": code, "message": str(answer)}})
            else:
                body, prediction, timing = answer
                serving.metrics.prediction(choice.served.ref.name, prediction, timing)
                results.append(body)
        serving.metrics.batch(len(images))
        failed = sum(isinstance(result, dict) for result in results)
        request.state.log = {
            "model": choice.served.ref.name,
            "version": choice.served.ref.version,
            "bytes": sum(map(len, images)),
            "images": len(images),
            "failed": failed,
        }
        return Response(orjson.dumps({"results": results}), media_type="application/json")

    return router


def _answer(
    serving: Serving, choice: Choice, data: bytes, options: Mapping[str, float], number: int, request_id: str
) -> _Answered | ImageError | UploadTooLarge | ModelFailed:
    where = f"image {number}"
    start = time.perf_counter()
    timing: dict[str, float] = {}
    if len(data) > (limit := choice.served.ref.max_upload_bytes):
        return UploadTooLarge(f"{where}: exceeds {limit} bytes; send a smaller file or raise max_upload_bytes")
    seen = serving.recorder.eye()
    try:
        served, prediction = serving.models.predict(choice, data, options, timing=timing, where=where, watch=seen)
    except (ImageError, ModelFailed) as error:
        return error
    timing["total"] = (time.perf_counter() - start) * 1000
    record = serving.recorder.record(data, seen, f"{request_id}/{number}", served, timing["total"])
    serving.recorder.keep([record])
    return orjson.Fragment(orjson.dumps(served.answer(prediction, timing))), prediction, timing
