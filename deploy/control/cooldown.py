"""Whether a use case may be trained again, by what this service and the registry know of its trainings."""

from __future__ import annotations

from datetime import datetime

from deploy.control.registry import Models
from deploy.control.use_cases import UseCases
from visionops.review.errors import NotFound
from visionops.runs.ports import RunStore
from visionops.runs.states import Kind, Wish, check_cooldown

__all__ = ["check_trainings"]


def check_trainings(wish: Wish, run: str, runs: RunStore, models: Models, use_cases: UseCases, now: datetime) -> None:
    """Check that the last training of a use case, whoever started it, is long enough ago.

    The registry is asked where the queue has nothing against it: that takes seconds, unless it was asked shortly
    before. A training counts there once it has registered its model, as it does for the retraining policy.

    Args:
        run: Id that the wish gets; one that is in the queue was checked when it came.

    Raises:
        NotFound: No file has the use case.
        CoolingDown: The last training is too recent.
        Unavailable: Database or registry cannot be reached.
    """
    hours = use_cases.find(wish.use_case).cooldown_hours
    if wish.kind is not Kind.RETRAIN or wish.override or not hours or _is_known(runs, run):
        return
    check_cooldown(wish, runs.last_training(wish.use_case), hours, now)
    names = tuple(one.name for one in use_cases.all()[0])
    check_cooldown(wish, models.last_trained(wish.use_case, names), hours, now)


def _is_known(runs: RunStore, run: str) -> bool:
    try:
        runs.run(run)
    except NotFound:
        return False
    return True
