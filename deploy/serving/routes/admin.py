"""`POST /reload`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError

from deploy.serving.context import Serving
from deploy.serving.errors import BadRequest, first_problem
from deploy.serving.models import ServedModel
from deploy.serving.schemas import RELOAD_BODY, ReloadRequest
from deploy.serving.settings import ModelRef
from deploy.serving.uploads import read_body

__all__ = ["admin_router"]

_log = logging.getLogger("visionops.serving")
_MAX_RELOAD_BYTES = 64_000_000


def admin_router(serving: Serving) -> APIRouter:
    """The routes over ``serving``."""
    router = APIRouter()

    @router.post("/reload", openapi_extra=RELOAD_BODY)
    async def reload(request: Request) -> dict[str, Any]:
        """Switch to another bundle, once it has loaded and passed its smoke test."""
        order = _parse_order(await read_body(request, _MAX_RELOAD_BYTES))
        async with serving.changing:
            # Not on the threads of /predict: a loading model must not stand in line before requests.
            new = await asyncio.to_thread(_prove, serving, order)
            serving.models.set_champion(new)
            serving.metrics.models(serving.models.all())
        _log.info("model_switched", extra={"fields": new.identity | {"digest": new.digest}})
        return new.describe()

    return router


def _parse_order(body: bytes) -> ReloadRequest:
    try:
        return ReloadRequest.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest(first_problem(error.errors(include_url=False)), "bad_reload") from error


def _prove(serving: Serving, order: ReloadRequest) -> ServedModel:
    ref = ModelRef.model_validate(order.model_dump(exclude={"smoke"}))
    return serving.loader.load(ref, smoke_images=order.smoke)
