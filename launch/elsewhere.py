"""Start a run on other machines once, and follow it when the same command is given again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from launch.interrupts import confirm_on_interrupt
from launch.requests import Request
from visionops.config import Config
from visionops.errors import StackError

if TYPE_CHECKING:
    from zenml.models import PipelineRunResponse

__all__ = ["attach", "request_digest", "start_elsewhere"]


def request_digest(request: Request, config: Config) -> str:
    """Return the SHA-256 of a request: its pipeline, its flags, and its settings with those of the use case."""
    own = request.model_dump(mode="json", exclude={"config", "settings", "stack", "schedule"})
    what = {"pipeline": request.pipeline, "own": own, "config": config.model_dump(mode="json")}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def attach(digest: str, use_case: str) -> PipelineRunResponse | None:
    """Follow the active run of a use case to its end, if it is for the same request.

    Args:
        digest: Digest of the request.

    Returns:
        The ended run; None if none was active.

    Raises:
        StackError: Another run of the use case is active, or the run has failed.
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
    announce(f"attached to run {oldest.name}, started {oldest.created:%Y-%m-%d %H:%M} UTC by {oldest.who}")
    with confirm_on_interrupt(oldest.name, stack, announce):
        return _followed(oldest.name)


def start_elsewhere(
    submit: Callable[[], object], name: str, digest: str, use_case: str, *, waits: bool
) -> PipelineRunResponse:
    """Start a run unless the same one is active, and follow it to its end.

    Args:
        submit: Function that submits the run to the orchestrator.
        name: Name of the run.
        digest: Digest of the request.
        waits: Whether ``submit`` itself waits for the end.

    Raises:
        StackError: As `attach`; or another client has started another run at the same time.
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
    with confirm_on_interrupt(name, stack, announce):
        with use_case_lock(use_case):
            if waits:
                with printed_steps(name, announce):
                    submit()
            else:
                submit()
        # Two clients have started at the same time: the older run continues.
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
