"""Routes for runs and models. Requests that change a model enter one queue and return 202 with the run's address."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from deploy.control.routes.context import (
    ActorOf,
    Control,
    IdempotencyKey,
    body_of,
    json_request,
    refusals,
    searchable,
)
from deploy.control.run_views import LOG_TAIL_BYTES, progress_view, run_view
from deploy.control.work import order_run
from visionops.review.states import Actor
from visionops.runs.states import Kind, RunRequest

__all__ = ["runs_router"]

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "The run is in the queue.", "headers": {"Location": {"schema": {"type": "string"}}}}
}


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RetrainOrder(_Order):
    """Request to train a use case."""

    use_case: str = Field(min_length=1, max_length=200)
    reason: str = ""
    override: bool = False


class PromoteOrder(_Order):
    """Request to make a version champion."""

    version: str = Field(pattern="^[0-9]{1,18}$")
    reason: str = Field(min_length=1)
    override: bool = False


class RollbackOrder(_Order):
    """Request to roll back to the previous champion."""

    reason: str = Field(min_length=1)


def runs_router(control: Control) -> APIRouter:
    """Return the routes for runs and models over ``control``."""
    router = APIRouter()

    def accept(run_request: RunRequest, actor: Actor, key: str, response: Response) -> dict[str, Any]:
        run = order_run(control, run_request, actor, key)
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
        """Queue a training; 409 during the use case's cooldown, unless `override` is set."""
        run_request = RunRequest(Kind.RETRAIN, order.use_case, order.reason, override=order.override)
        return accept(run_request, actor, key, response)

    @router.get("/use-cases", responses=refusals())
    def use_cases() -> dict[str, Any]:
        """Return the use cases that can be trained, and the errors of files that cannot be used."""
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
        return [run_view(run) for run in control.runs.runs(searchable(use_case), limit, searchable(after))]

    @router.get("/runs/{run}", responses=refusals(404))
    def run(run: str) -> dict[str, Any]:
        """Return a run: state, step, progress, the end of its log, and its result."""
        found = control.runs.run(searchable(run) or "")
        tail = control.launcher.log_tail(found, LOG_TAIL_BYTES) if found.place == control.launcher.place else ""
        summary = dict(found.summary) if found.summary else None
        return {
            **run_view(found),
            **progress_view(tail),
            "log_tail": tail,
            "dashboard": (summary or {}).get("dashboard"),
            "summary": summary,
        }

    @router.post("/runs/{run}/cancel", status_code=202, responses=refusals(404, 408, 409))
    def cancel(run: str, actor: ActorOf) -> dict[str, Any]:
        """Remove a run from the queue, or interrupt it, and kill it if it does not end in time."""
        return run_view(control.runs.cancel(searchable(run) or "", actor.name, control.now()))

    @router.get("/models", responses=refusals())
    def models() -> dict[str, Any]:
        """Return the champion, the versions and the gate's decisions of each use case."""
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
        """Queue a promotion: serve a version as champion. A version that the gate refused needs `override`."""
        run_request = RunRequest(Kind.PROMOTE, name, order.reason, order.version, override=order.override)
        return accept(run_request, actor, key, response)

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
        """Queue a rollback to the previous champion."""
        return accept(RunRequest(Kind.ROLLBACK, name, order.reason), actor, key, response)

    return router
