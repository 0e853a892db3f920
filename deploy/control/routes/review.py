"""Routes that list, claim, decide and export review items; `visionops.review` checks what is allowed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from deploy.control.routes.context import (
    UPLOAD_BODY,
    ActorOf,
    Control,
    IdempotencyKey,
    body_of,
    json_request,
    refusals,
    searchable,
)
from deploy.control.routes.views import (
    agreement_view,
    arrival_view,
    audit_view,
    decision_view,
    item_view,
    opinion_view,
    stats_view,
    version_view,
)
from deploy.http.errors import BadRequest
from deploy.http.uploads import read_upload
from visionops.inference.image import read_header
from visionops.review.agreement import agreement_of
from visionops.review.items import Origin
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Arrival
from visionops.review.states import State, Verdict

__all__ = ["review_router"]

_Name = Annotated[str, Query(min_length=1, max_length=200)]
_Text = Annotated[str, Query(max_length=4000)]
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The image file, unchanged.", "content": {"image/*": {}}},
    304: {"description": "The client has the image already."},
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimBody(_Body):
    """Duration of a claim."""

    lease_seconds: float = Field(default=900, gt=0, le=86_400)


class DecideBody(_Body):
    """Decision of a reviewer."""

    verdict: Verdict
    label: dict[str, Any] | None = None
    reason: str = ""
    comment: str = ""


class ReopenBody(_Body):
    """Reason to reopen an item."""

    reason: str = Field(min_length=1)


_Claim = Annotated[ClaimBody, Depends(body_of(ClaimBody))]
_Decide = Annotated[DecideBody, Depends(body_of(DecideBody))]
_Reopen = Annotated[ReopenBody, Depends(body_of(ReopenBody))]
_CLAIM: dict[str, Any] = {
    "responses": refusals(404, 408, 409, 413, 415),
    "openapi_extra": json_request(ClaimBody),
}


def review_router(control: Control) -> APIRouter:
    """Return the review routes over ``control``."""
    router = APIRouter(prefix="/review")
    _add_reading(router, control)
    _add_writing(router, control)
    return router


def _add_reading(router: APIRouter, control: Control) -> None:
    review = control.review

    @router.get("/use-cases", responses=refusals())
    def use_cases() -> list[dict[str, Any]]:
        """Return the use cases in review, with their classes."""
        found = review.store.use_cases()
        return [{"name": c.name, "task": c.task, "scheme": c.scheme.model_dump(mode="json")} for c in found]

    @router.get("/items", responses=refusals(404))
    def items(
        use_case: Annotated[str | None, Query(max_length=200)] = None,
        state: Annotated[list[State] | None, Query()] = None,
        origin: Origin | None = None,
        sha256: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
        reference: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str | None, Query(max_length=64)] = None,
    ) -> list[dict[str, Any]]:
        """Return items, newest first."""
        wanted = ItemFilter(
            searchable(use_case), state or (), origin, sha256, searchable(reference), limit, searchable(after)
        )
        return [item_view(item) for item in review.store.items(wanted)]

    @router.get("/items/{item}", responses=refusals(404))
    def item(item: str, actor: ActorOf) -> dict[str, Any]:
        """Return an item with its history: arrivals, changes, decisions with their data version, and opinions."""
        item = searchable(item) or ""
        # The order matters: an opinion that arrives in between stays hidden.
        traced, opinions = review.store.trace(item), review.opinions(item, actor)
        return item_view(traced.item) | {
            "arrivals": [
                arrival_view(one.submission) | {"at": one.at.isoformat(), "by": one.by} for one in traced.arrivals
            ],
            "decisions": [decision_view(one) | {"version": version} for one, version in traced.decisions],
            "opinions": [opinion_view(one) for one in opinions],
            "history": [audit_view(one) for one in traced.changes],
        }

    @router.get("/items/{item}/image", response_class=Response, responses={**_IMAGE, **refusals(404)})
    def image(item: str, request: Request) -> Response:
        """Return the image of an item; it never changes, so clients may cache it."""
        found = review.store.item(searchable(item) or "")
        tag = f'"{found.image.sha256}"'
        # With `no-store`, the default, a browser would fetch the image again each time it is shown.
        request.state.cache_control = "private, max-age=31536000, immutable"
        headers = {"ETag": tag}
        if tag in [part.strip() for part in request.headers.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        media = f"image/{found.image.format.lower()}"
        return Response(review.images.read(found.image.sha256), media_type=media, headers=headers)

    @router.get("/{use_case}/agreement", responses=refusals(404))
    def agreement(use_case: str) -> dict[str, Any]:
        """Return the agreement of reviewers who labelled the same images blind."""
        return agreement_view(agreement_of(review.store, searchable(use_case) or ""))

    @router.get("/{use_case}/stats", responses=refusals(404))
    def stats(use_case: str) -> dict[str, Any]:
        """Return the state of a use case's queue."""
        return stats_view(review.store.stats(searchable(use_case) or ""))


def _add_writing(router: APIRouter, control: Control) -> None:
    review = control.review

    @router.post("/items", status_code=201, responses=refusals(404, 408, 409, 413, 415), openapi_extra=UPLOAD_BODY)
    async def upload(
        request: Request,
        actor: ActorOf,
        key: IdempotencyKey,
        use_case: _Name,
        comment: _Text = "",
        name: Annotated[str, Query(max_length=500)] = "",
        reference: Annotated[str, Query(max_length=200)] = "",
        label: Annotated[str, Query(max_length=100_000)] = "",
    ) -> dict[str, Any]:
        """Add an image to the review; `label`, JSON in the task's format, is a proposal that a reviewer sees."""
        data = await read_upload(request, control.options.max_upload_bytes)
        read_header(data)
        arrival = Arrival(Origin.UPLOAD, reference, name, comment, label=_label(label))
        added = await run_in_threadpool(review.add, use_case, data, arrival, actor, key=key, now=control.now())
        return item_view(added.item) | {"is_new": added.is_new}

    @router.post("/{use_case}/claim", **_CLAIM)
    def claim_next(use_case: str, body: _Claim, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Claim the next item to review; `item` is null if none is waiting."""
        lease, name = timedelta(seconds=body.lease_seconds), searchable(use_case) or ""
        found = review.claim_next(name, actor, key=key, now=control.now(), lease=lease)
        return {"item": found and item_view(found)}

    @router.post("/items/{item}/claim", **_CLAIM)
    def claim(item: str, body: _Claim, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Claim an item."""
        lease = timedelta(seconds=body.lease_seconds)
        return item_view(review.claim(searchable(item) or "", actor, key=key, now=control.now(), lease=lease))

    @router.post("/items/{item}/renew", **_CLAIM)
    def renew(item: str, body: _Claim, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Renew the caller's own claim."""
        lease = timedelta(seconds=body.lease_seconds)
        return item_view(review.renew(searchable(item) or "", actor, key=key, now=control.now(), lease=lease))

    @router.post("/items/{item}/release", responses=refusals(404, 408, 409))
    def release(item: str, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Release a claimed item without a decision."""
        return item_view(review.release(searchable(item) or "", actor, key=key, now=control.now()))

    @router.post(
        "/items/{item}/decide",
        responses=refusals(404, 408, 409, 413, 415),
        openapi_extra=json_request(DecideBody),
    )
    def decide(item: str, body: _Decide, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Record the decision of the reviewer who claimed the item."""
        answer = Answer(body.verdict, body.label, body.reason, body.comment)
        return item_view(review.decide(searchable(item) or "", answer, actor, key=key, now=control.now()))

    @router.post(
        "/items/{item}/reopen",
        responses=refusals(404, 408, 409, 413, 415),
        openapi_extra=json_request(ReopenBody),
    )
    def reopen(item: str, body: _Reopen, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Reopen a decided item."""
        # Without configured keys, only a client with the admin key can call this.
        return item_view(review.reopen(searchable(item) or "", body.reason, actor, key=key, now=control.now()))

    @router.post("/{use_case}/export", responses=refusals(404, 408, 409))
    def export(use_case: str, actor: ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Create the next data version from the decided items; `version` is null if none is decided."""
        made = review.export(searchable(use_case) or "", actor, key=key, now=control.now())
        return {"version": made and version_view(made)}


def _label(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("label: is not JSON", "bad_label") from error
    if not isinstance(found, dict):
        raise BadRequest("label: is not a JSON object", "bad_label")
    return found
