"""Routes that search for known images similar to a given image."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from deploy.control.routes.context import UPLOAD_BODY, Control, refusals, searchable
from deploy.http.errors import BadRequest
from deploy.http.uploads import read_upload
from visionops.review.likeness import Neighbour

__all__ = ["neighbour_view", "similar_router"]

_Name = Annotated[str, Query(min_length=1, max_length=200)]
_Limit = Annotated[int, Query(ge=1, le=100)]


def similar_router(control: Control) -> APIRouter:
    """Return the search routes over ``control``."""
    router, review = APIRouter(), control.review

    def find(use_case: str, data: bytes, limit: int) -> list[dict[str, Any]]:
        review.store.use_case(use_case)
        return [neighbour_view(one) for one in review.similar.find(use_case, data, limit)] if review.similar else []

    @router.get("/similar", responses=refusals(404))
    def similar_to_known(
        use_case: _Name,
        item: Annotated[str, Query(max_length=64)] = "",
        sha256: Annotated[str, Query(pattern="^([0-9a-f]{64})?$")] = "",
        limit: _Limit = 10,
    ) -> list[dict[str, Any]]:
        """Return the images most similar to an image in review, nearest first; `item` or `sha256` names the image."""
        if bool(item) == bool(sha256):
            raise BadRequest("item, sha256: set exactly one, or send an image to POST /similar", "bad_parameter")
        digest = sha256 or review.store.item(searchable(item) or "").image.sha256
        return find(searchable(use_case) or "", review.images.read(digest), limit)

    @router.post("/similar", responses=refusals(404, 408, 413, 415), openapi_extra=UPLOAD_BODY)
    async def similar_to_upload(request: Request, use_case: _Name, limit: _Limit = 10) -> list[dict[str, Any]]:
        """Return the images most similar to the uploaded image, nearest first. The upload is not stored."""
        data = await read_upload(request, control.options.max_upload_bytes)
        return await run_in_threadpool(find, searchable(use_case) or "", data, limit)

    return router


def neighbour_view(found: Neighbour) -> dict[str, Any]:
    """Return a similar image as JSON."""
    known = dataclasses.asdict(found.known) | {"state": found.known.state and found.known.state.value}
    return known | {"distance": found.distance, "is_near": found.is_near}
