"""Runs whose steps run elsewhere: started once, followed by whoever gives the same command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from launch.interrupts import asking_on_interrupt
from launch.requests import Request
from visionops.config import Config
from visionops.errors import StackError

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

__all__ = ["attach", "request_digest", "start_elsewhere"]


def request_digest(request: Request, config: Config) -> str:
    """Return the SHA-256 of what a request does: its pipeline, its settings with those of the use case, its flags."""
    own = request.model_dump(mode="json", exclude={"config", "settings", "stack", "schedule"})
    what = {"pipeline": request.pipeline, "own": own, "config": config.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def attach(digest: str, use_case: str) -> PipelineRunResponse | None:
    """Follow the run of a use case that is under way, where it is that of the same request, to its end.

    Args:
        digest: Of the request.

    Returns:
        The run as it ended; None where none was under way.

    Raises:
        StackError: Another run keeps the use case busy, or the run has failed.
    """
    from zenml.client import Client

    from stacks.under_way import runs_under_way
    from steps.progress import announce

    stack = str(Client().active_stack_model.name)
    runs = runs_under_way(use_case)
    if not runs:
        return None
    oldest = runs[0]
    if oldest.request != digest:
        raise StackError(oldest.explain(use_case, stack))
    announce(f"attached to run {oldest.name}, begun {oldest.created:%Y-%m-%d %H:%M} UTC by {oldest.who}")
    with asking_on_interrupt(oldest.name, stack, announce):
        return _followed(oldest.name)


def start_elsewhere(
    submit: Callable[[], object], name: str, digest: str, use_case: str, *, waits: bool
) -> PipelineRunResponse:
    """Start a run unless the same is under way, and follow it to its end.

    Args:
        submit: Hands the run to the orchestrator.
        name: Of the run.
        digest: Of the request.
        waits: Whether ``submit`` itself waits for the end.

    Raises:
        StackError: As `attach`; or somebody else has started another run at the same time.
    """
    from zenml.client import Client

    from stacks.run_progress import printed_steps
    from stacks.stopping import stop_run
    from stacks.under_way import runs_under_way
    from stacks.use_case_lock import use_case_lock
    from steps.progress import announce

    if (found := attach(digest, use_case)) is not None:
        return found
    stack = str(Client().active_stack_model.name)
    with asking_on_interrupt(name, stack, announce):
        with use_case_lock(use_case):
            if waits:
                with printed_steps(name, announce):
                    submit()
            else:
                submit()
        # Two clients that have begun at once: the run that was there first goes on.
        runs = runs_under_way(use_case)
        if any(run.name == name for run in runs[1:]):
            stop_run(name)
            raise StackError(runs[0].explain(use_case, stack))
        return _followed(name)


def _followed(name: str) -> PipelineRunResponse:
    from stacks.following import follow_run
    from stacks.session import require_success
    from steps.progress import announce

    run = follow_run(name, announce)
    require_success(run)
    return run
