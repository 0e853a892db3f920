"""When Airflow runs the pipeline of a request."""

from __future__ import annotations

from launch.requests import MonitorRequest, Request, TrainRequest
from stacks.placement import DagPlan

__all__ = ["dag_plan", "following_training", "retraining_plan"]

_RETRAINING = "retraining"


def dag_plan(request: Request, use_case: str) -> DagPlan:
    """Plan the DAG of a request: at once and once where it has no schedule."""
    if not request.schedule:
        return DagPlan()
    if following_training(request) is None:
        return DagPlan(id=f"{request.pipeline}-{use_case}")
    return DagPlan(
        id=f"{request.pipeline}-{use_case}",
        after="decide_retraining",
        asks=("python", "-m", "pipelines.asked"),
        starts=retraining_plan(use_case).id,
    )


def retraining_plan(use_case: str) -> DagPlan:
    """Plan the DAG of the training that a scheduled monitoring starts."""
    return DagPlan(id=f"{_RETRAINING}-{use_case}", is_on_demand=True)


def following_training(request: Request) -> TrainRequest | None:
    """The training that a monitoring may decide on; None for other requests, and where it only decides."""
    if not isinstance(request, MonitorRequest) or request.decide_only:
        return None
    shared = {name: getattr(request, name) for name in Request.model_fields}
    return TrainRequest(**shared | {"schedule": None})
