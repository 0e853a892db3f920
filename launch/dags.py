"""Plan when Airflow runs the pipeline of a request."""

from __future__ import annotations

from launch.requests import MonitorRequest, Request, TrainRequest
from stacks.run_options import DagPlan
from visionops.config import Config

__all__ = ["dag_plan", "following_training", "retraining_plan"]

_RETRAINING = "retraining"


def dag_plan(request: Request, use_case: str) -> DagPlan:
    """Plan the DAG of a request; without a schedule it runs once, immediately."""
    if not request.schedule:
        return DagPlan(use_case=use_case)
    if following_training(request) is None:
        return DagPlan(id=f"{request.pipeline}-{use_case}", use_case=use_case)
    return DagPlan(
        use_case=use_case,
        id=f"{request.pipeline}-{use_case}",
        after="decide_retraining",
        asks=("python", "-m", "pipelines.retraining_trigger"),
        starts=_retraining(use_case),
    )


def retraining_plan(config: Config) -> DagPlan:
    """Plan the DAG of the training that a scheduled monitoring starts, with its own schedule if one is set."""
    is_on_demand = config.schedules.retraining is None
    return DagPlan(id=_retraining(config.name), is_on_demand=is_on_demand, use_case=config.name)


def following_training(request: Request) -> TrainRequest | None:
    """Return the training that a monitoring may start; None for other requests and with `decide_only`."""
    if not isinstance(request, MonitorRequest) or request.decide_only:
        return None
    shared = {name: getattr(request, name) for name in Request.model_fields}
    return TrainRequest(**shared | {"schedule": None})


def _retraining(use_case: str) -> str:
    return f"{_RETRAINING}-{use_case}"
