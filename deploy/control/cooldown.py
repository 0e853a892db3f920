"""Check the cooldown of a use case, by the trainings in the queue and in the model registry."""

from __future__ import annotations

from datetime import datetime

from deploy.control.registry import Models
from deploy.control.use_cases import UseCases
from visionops.review.errors import NotFound
from visionops.runs.ports import RunStore
from visionops.runs.states import Kind, RunRequest, check_cooldown

__all__ = ["check_trainings"]


def check_trainings(
    run_request: RunRequest, run: str, runs: RunStore, models: Models, use_cases: UseCases, now: datetime
) -> None:
    """Check that the last training of a use case is long enough ago, regardless of who started it.

    The queue is checked first, because a query of the registry takes seconds unless a recent answer is cached. In the
    registry, a training counts once its model is registered, as in the retraining policy.

    Args:
        run: Id of the requested run; one that is in the queue already is not checked again.

    Raises:
        NotFound: No file defines the use case.
        CoolingDown: The last training is too recent.
        Unavailable: The database or the registry cannot be reached.
    """
    hours = use_cases.find(run_request.use_case).cooldown_hours
    if run_request.kind is not Kind.RETRAIN or run_request.override or not hours or _is_known(runs, run):
        return
    check_cooldown(run_request, runs.last_training(run_request.use_case), hours, now)
    names = tuple(one.name for one in use_cases.all()[0])
    check_cooldown(run_request, models.last_trained(run_request.use_case, names), hours, now)


def _is_known(runs: RunStore, run: str) -> bool:
    try:
        runs.run(run)
    except NotFound:
        return False
    return True
