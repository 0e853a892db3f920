"""Runs and models: what changes a model waits in one queue, and is answered with 202 and where to look."""

from __future__ import annotations

import functools
import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from deploy.control.cooldown import check_trainings
from deploy.control.routes.context import (
    ActorOf,
    Control,
    IdempotencyKey,
    body_of,
    json_request,
    refusals,
    searchable,
)
from visionops.review.states import Actor
from visionops.runs.states import Kind, Run, Wish, check_cooldown, run_id

__all__ = ["runs_router"]

_TAIL_BYTES = 16_384
_PROGRESS = re.compile(r"^ {2}(?P<step>[^:\n]{1,80}): (?P<done>\d+)/(?P<total>\d+) ?(?P<note>.*)$", re.MULTILINE)
_ANNOUNCED = re.compile(r"^• (.+)$", re.MULTILINE)
_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "It is in the queue.", "headers": {"Location": {"schema": {"type": "string"}}}}
}


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RetrainOrder(_Order):
    """Which use case is to be trained."""

    use_case: str = Field(min_length=1, max_length=200)
    reason: str = ""
    override: bool = False


class PromoteOrder(_Order):
    """Which version is to become champion, and why."""

    version: str = Field(pattern="^[0-9]{1,18}$")
    reason: str = Field(min_length=1)
    override: bool = False


class RollbackOrder(_Order):
    """Why the champion is to go."""

    reason: str = Field(min_length=1)


def runs_router(control: Control) -> APIRouter:
    """The routes over ``control``."""
    router = APIRouter()

    def accept(wish: Wish, actor: Actor, key: str, response: Response) -> dict[str, Any]:
        found = control.use_cases.find(wish.use_case)
        now = control.now()
        check_trainings(wish, run_id(actor.name, key), control.runs, control.models, control.use_cases, now)
        check = functools.partial(check_cooldown, wish, cooldown_hours=found.cooldown_hours, now=now)
        run = control.runs.add(wish, actor.name, key, now, check)
        response.headers["Location"] = f"/runs/{run.id}"
        return {"run": run.id, "state": run.state.value, "status_url": f"/runs/{run.id}"}

    @router.post(
        "/retrain",
        status_code=202,
        responses={**_ACCEPTED, **refusals(404, 408, 409, 413, 415)},
        openapi_extra=json_request(RetrainOrder),
    )
    def retrain(
        order: Annotated[RetrainOrder, Depends(body_of(RetrainOrder))],
        actor: ActorOf,
        key: IdempotencyKey,
        response: Response,
    ) -> dict[str, Any]:
        """Train a use case when its turn comes; 409 while it cools down, unless `override` says why."""
        wish = Wish(Kind.RETRAIN, order.use_case, order.reason, override=order.override)
        return accept(wish, actor, key, response)

    @router.get("/use-cases", responses=refusals())
    def use_cases() -> dict[str, Any]:
        """Return what can be trained, and what is wrong with files that cannot."""
        known, problems = control.use_cases.all()
        names = [{"name": one.name, "file": one.path.name, "cooldown_hours": one.cooldown_hours} for one in known]
        return {"use_cases": names, "problems": problems}

    @router.get("/runs", responses=refusals(404))
    def runs(
        use_case: Annotated[str | None, Query(max_length=200)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        after: Annotated[str | None, Query(max_length=64)] = None,
    ) -> list[dict[str, Any]]:
        """Return runs, newest first."""
        return [_brief(run) for run in control.runs.runs(searchable(use_case), limit, searchable(after))]

    @router.get("/runs/{run}", responses=refusals(404))
    def run(run: str) -> dict[str, Any]:
        """Return a run: state, step, progress, the end of its log, and what came of it."""
        found = control.runs.run(searchable(run) or "")
        tail = control.launcher.log_tail(found, _TAIL_BYTES) if found.place == control.launcher.place else ""
        summary = dict(found.summary) if found.summary else None
        return {
            **_brief(found),
            **_progress(tail),
            "log_tail": tail,
            "dashboard": (summary or {}).get("dashboard"),
            "summary": summary,
        }

    @router.post("/runs/{run}/cancel", status_code=202, responses=refusals(404, 408, 409))
    def cancel(run: str, actor: ActorOf) -> dict[str, Any]:
        """Take a run out of the queue, or interrupt it; killed after a while if it does not end."""
        return _brief(control.runs.cancel(searchable(run) or "", actor.name, control.now()))

    @router.get("/models", responses=refusals())
    def models() -> dict[str, Any]:
        """Return, by use case, its champion, the versions and what the gate said of each."""
        known, _ = control.use_cases.all()
        return control.models.list(tuple(one.name for one in known))

    @router.post(
        "/models/{name}/promote",
        status_code=202,
        responses={**_ACCEPTED, **refusals(404, 408, 409, 413, 415)},
        openapi_extra=json_request(PromoteOrder),
    )
    def promote(
        name: str,
        order: Annotated[PromoteOrder, Depends(body_of(PromoteOrder))],
        actor: ActorOf,
        key: IdempotencyKey,
        response: Response,
    ) -> dict[str, Any]:
        """Serve a version as champion; one that the gate has refused only with `override`."""
        wish = Wish(Kind.PROMOTE, name, order.reason, order.version, override=order.override)
        return accept(wish, actor, key, response)

    @router.post(
        "/models/{name}/rollback",
        status_code=202,
        responses={**_ACCEPTED, **refusals(404, 408, 409, 413, 415)},
        openapi_extra=json_request(RollbackOrder),
    )
    def rollback(
        name: str,
        order: Annotated[RollbackOrder, Depends(body_of(RollbackOrder))],
        actor: ActorOf,
        key: IdempotencyKey,
        response: Response,
    ) -> dict[str, Any]:
        """Go back to the champion before this one."""
        return accept(Wish(Kind.ROLLBACK, name, order.reason), actor, key, response)

    return router


def _brief(run: Run) -> dict[str, Any]:
    wish = run.wish
    times = {name: getattr(run, name) for name in ("queued", "started", "ended", "cancelled_at")}
    return {
        "id": run.id,
        "kind": wish.kind.value,
        "use_case": wish.use_case,
        "version": wish.version or None,
        "reason": wish.reason,
        "override": wish.override,
        "actor": run.actor,
        "state": run.state.value,
        **{name: at and at.isoformat() for name, at in times.items()},
        "cancelled_by": run.cancelled_by,
        "place": run.place,
        "exit_code": run.exit_code,
        "message": run.message,
    }


def _progress(tail: str) -> dict[str, Any]:
    """Return the last step that the log names, and how far it is."""
    bars = list(_PROGRESS.finditer(tail))
    said = list(_ANNOUNCED.finditer(tail))
    bar = bars[-1] if bars else None
    note = said[-1][1] if said else None
    progress = bar and {"done": int(bar["done"]), "total": int(bar["total"]), "note": bar["note"].strip()}
    return {"step": bar["step"] if bar else note, "announced": note, "progress": progress}
