"""Routes `POST /reload` and `POST /unload`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ValidationError

from deploy.http.errors import BadRequest, first_problem
from deploy.http.uploads import read_body
from deploy.serving.models.models import ServedModel
from deploy.serving.models.startup import read_smoke_images
from deploy.serving.routes.context import Serving
from deploy.serving.routes.openapi import RELOAD_BODY, RELOAD_RESPONSES, UNLOAD_BODY, UNLOAD_RESPONSES
from deploy.serving.routes.schemas import NameStatus, ReloadAnswer, ReloadRequest, UnloadRequest
from deploy.serving.settings import Placement
from visionops.errors import VisionOpsError

__all__ = ["admin_router"]

_log = logging.getLogger("visionops.serving")
_MAX_RELOAD_BYTES = 64_000_000
_MAX_UNLOAD_BYTES = 10_000
_Order = TypeVar("_Order", bound=BaseModel)


def admin_router(serving: Serving) -> APIRouter:
    """Return the admin routes over ``serving``."""
    router = APIRouter()

    @router.post(
        "/reload",
        response_model=ReloadAnswer,
        response_model_exclude_unset=True,
        responses=RELOAD_RESPONSES,
        openapi_extra=RELOAD_BODY,
    )
    async def reload(request: Request) -> dict[str, Any]:
        """Load a model, run its smoke test, and put it into its role. If it fails, nothing changes."""
        order = _parse(ReloadRequest, await read_body(request, _MAX_RELOAD_BYTES))
        placement = order.placement()
        async with serving.changing:
            # Not on the threads of /predict, so that requests do not wait while a model loads.
            new = await asyncio.to_thread(_load, serving, placement, order.smoke)
        fields = new.summary() | {"role": placement.role.value}
        _log.info("model_switched", extra={"fields": fields})
        return new.describe() | {"role": placement.role.value}

    @router.post(
        "/unload",
        response_model=list[NameStatus],
        response_model_exclude_unset=True,
        responses=UNLOAD_RESPONSES,
        openapi_extra=UNLOAD_BODY,
    )
    async def unload(request: Request) -> list[dict[str, Any]]:
        """Remove a model from its role; removing the champion removes the name. Running requests still finish."""
        order = _parse(UnloadRequest, await read_body(request, _MAX_UNLOAD_BYTES))
        async with serving.changing:
            serving.models.unload(order.name, order.role)
        _log.info("model_unloaded", extra={"fields": {"name": order.name, "role": order.role.value}})
        return [serving.models.status(name) for name in serving.models.names()]

    return router


def _parse(order: type[_Order], body: bytes) -> _Order:
    try:
        return order.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest(first_problem(error.errors(include_url=False)), "bad_reload") from error


def _load(serving: Serving, placement: Placement, smoke_images: Sequence[bytes]) -> ServedModel:
    try:
        serving.models.check(placement)
        smoke_images = smoke_images or read_smoke_images(serving.settings)
        new = serving.loader.load(placement, smoke_images=smoke_images, beside=serving.models.beside(placement.name))
        serving.models.place(new, placement)
    except VisionOpsError as error:
        serving.models.load_failed(placement, error)
        raise
    return new
