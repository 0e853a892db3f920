"""Routes of the review page: claim items ahead, decide and release them. `visionops.review` checks what is allowed.

Everybody, including an admin, reviews blind here: the opinions of others on an item are hidden.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from deploy.console.context import Console, viewer_of
from deploy.control.routes.context import IdempotencyKey, body_of, searchable
from deploy.control.routes.review import DecideBody, ReopenBody
from deploy.control.routes.similar import neighbour_view
from deploy.control.routes.views import item_view, opinion_view, stats_view
from visionops.review.errors import Conflict, Forbidden, NotFound, ReviewError
from visionops.review.items import ReviewItem
from visionops.review.service import LEASE, Answer
from visionops.review.states import Actor
from visionops.tasks.spec import TaskSpec, task_for

__all__ = ["review_router"]

_MOST_CLAIMED = 60
_MOST_SIMILAR = 12
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_Ids = Annotated[list[_Id], Field(max_length=4 * _MOST_CLAIMED)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClaimBody(_Body):
    """Request to claim items."""

    use_case: Annotated[str, Field(min_length=1, max_length=200)]
    count: Annotated[int, Field(ge=0, le=_MOST_CLAIMED)]
    """Number of items to claim from the queue."""
    resume: _Ids = []
    """Items that the page has claimed already, to renew."""


class ReleaseBody(_Body):
    """Request to release items."""

    items: _Ids


class TimedDecision(DecideBody):
    """Decision of a reviewer, with the seconds that they looked at the item."""

    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None


_Claim = Annotated[ClaimBody, Depends(body_of(ClaimBody))]
_Release = Annotated[ReleaseBody, Depends(body_of(ReleaseBody))]
_Decide = Annotated[TimedDecision, Depends(body_of(TimedDecision))]
_Reopen = Annotated[ReopenBody, Depends(body_of(ReopenBody))]


async def _actor(request: Request) -> Actor:
    return viewer_of(request).actor


_ActorOf = Annotated[Actor, Depends(_actor)]


def review_router(console: Console) -> APIRouter:
    """Return the review routes over ``console``."""
    router = APIRouter(prefix="/api/review")
    _add_reading(router, console)
    _add_writing(router, console)
    return router


def _add_reading(router: APIRouter, console: Console) -> None:
    review = console.review

    @router.get("/use-cases")
    def use_cases() -> list[dict[str, Any]]:
        """Return the use cases in review, with their classes."""
        found = review.store.use_cases()
        return [{"name": c.name, "task": c.task, "scheme": c.scheme.model_dump(mode="json")} for c in found]

    @router.get("/stats")
    def stats(use_case: Annotated[str, Query(min_length=1, max_length=200)]) -> dict[str, Any]:
        """Return the state of a use case's queue."""
        return stats_view(review.store.stats(searchable(use_case) or ""))

    @router.get("/items/{item}/similar")
    def similar(item: str) -> list[dict[str, Any]]:
        """Return the other images most similar to an item's image, nearest first."""
        found = review.store.item(searchable(item) or "")
        if review.similar is None:
            return []
        data = review.images.read(found.image.sha256)
        near = review.similar.find(found.use_case, data, _MOST_SIMILAR + 1)
        return [neighbour_view(one) for one in near if one.known.sha256 != found.image.sha256][:_MOST_SIMILAR]


def _add_writing(router: APIRouter, console: Console) -> None:
    review = console.review

    def opinions_on(item: ReviewItem, actor: Actor) -> list[dict[str, Any]]:
        # An admin who reviews is blind too. Only a third reviewer sees the two earlier opinions, without names.
        seen = review.opinions(item.id, Actor(actor.name))
        return [opinion_view(one) for one in seen if one.round == item.status.round]

    def page_view(item: ReviewItem, task: TaskSpec[Any], actor: Actor) -> dict[str, Any]:
        arrivals = review.store.arrivals(item.id)
        view = item_view(item)
        return view | {
            "image": view["image"] | {"url": f"/api/items/{item.id}/image"},
            "predicted_label": item.predicted and task.label_of(item.predicted.answer),
            "proposed": next((one.proposed for one in reversed(arrivals) if one.proposed), None),
            "comments": [{"origin": one.origin.value, "text": one.comment} for one in arrivals if one.comment],
            "opinions": opinions_on(item, actor) if item.status.reviewers else [],
        }

    def claim_known(item: str, use_case: str, actor: Actor, key: str) -> ReviewItem:
        if review.store.item(item).use_case != use_case:
            raise NotFound(f"item {item}: does not belong to use case {use_case}")
        return review.claim(item, actor, key=key, now=console.now())

    @router.post("/claim")
    def claim(body: _Claim, actor: _ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Claim the next items of a queue, and renew the page's claims; `lost` lists claims that cannot be renewed."""
        use_case, now = searchable(body.use_case) or "", console.now()
        task = task_for(review.store.use_case(use_case).task)
        items: list[ReviewItem] = []
        lost: list[dict[str, str]] = []
        for item in body.resume:
            try:
                items.append(claim_known(searchable(item) or "", use_case, actor, _part(key, item)))
            except (Conflict, NotFound) as error:
                lost.append(_refused(item, error))
        num_resumed = len(items)
        for number in range(body.count):
            found = review.claim_next(use_case, actor, key=_part(key, number), now=now)
            if found is None:
                break
            items.append(found)
        return {
            "items": [page_view(item, task, actor) for item in items],
            "num_next": len(items) - num_resumed,
            "lost": lost,
            "lease_seconds": LEASE.total_seconds(),
        }

    @router.post("/release")
    def release(body: _Release, actor: _ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Release items without a decision; `refused` lists those that somebody else has claimed or decided."""
        released, refused, now = [], [], console.now()
        holder = Actor(actor.name)  # without the admin's rights, to release only their own claims
        for item in body.items:
            try:
                review.release(searchable(item) or "", holder, key=_part(key, item), now=now)
                released.append(item)
            except (Conflict, Forbidden, NotFound) as error:
                refused.append(_refused(item, error))
        return {"released": released, "refused": refused}

    @router.post("/items/{item}/decide")
    def decide(item: str, body: _Decide, actor: _ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Record the decision of the reviewer who claimed the item."""
        answer = Answer(body.verdict, body.label, body.reason, body.comment)
        found = review.decide(searchable(item) or "", answer, actor, key=key, now=console.now())
        console.metrics.decided(found.use_case, answer.verdict, actor.name)
        return item_view(found)

    @router.post("/items/{item}/claim")
    def claim_one(item: str, actor: _ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Claim an item again after its lease has expired or it was released."""
        found = review.claim(searchable(item) or "", actor, key=key, now=console.now())
        return page_view(found, task_for(review.store.use_case(found.use_case).task), actor)

    @router.post("/items/{item}/reopen")
    def reopen(item: str, body: _Reopen, actor: _ActorOf, key: IdempotencyKey) -> dict[str, Any]:
        """Reopen a decided item; for admins."""
        return item_view(review.reopen(searchable(item) or "", body.reason, actor, key=key, now=console.now()))


def _part(key: str, part: object) -> str:
    """Return an idempotency key for one of several writes in a request."""
    return hashlib.sha256(f"{key}/{part}".encode()).hexdigest()


def _refused(item: str, error: ReviewError) -> dict[str, str]:
    return {"item": item, "code": error.code, "message": str(error)}
