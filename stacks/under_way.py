"""List the runs of a use case that are active on other machines, with owner and start."""

from __future__ import annotations

import dataclasses
import getpass
import platform
from datetime import UTC, datetime, timedelta
from typing import Any

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse

from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import Manifest
from stacks.run_progress import orchestrator_namespace
from visionops.errors import StackError

__all__ = [
    "RunUnderWay",
    "has_ended",
    "how_to_stop",
    "is_there",
    "jobs_of",
    "marks",
    "require_idle",
    "runs_under_way",
    "starts_steps",
]

_TAG = "use-case"
_REQUEST, _CLIENT = "request", "client"
_NEWEST = 50
_STARTING = timedelta(minutes=2)
"""Time that a new run may be without a Job, while its client submits it."""
_ENDS = {"Complete", "Failed"}
_STARTER = "zenml.io/orchestrator"
"""Annotation of the Job whose pod starts the steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunUnderWay:
    """A run that has not ended."""

    name: str
    created: datetime
    who: str
    request: str
    """Digest of the run's request, as passed to `marks`."""

    def explain(self, use_case: str, stack: str) -> str:
        """Return a one-line message that this run blocks the use case, with the fix."""
        return (
            f"{use_case}: busy on stack {stack!r} with run {self.name}, started {self.created:%Y-%m-%d %H:%M} UTC by "
            f"{self.who}; wait for its end, or stop it: {how_to_stop(self.name, stack)}"
        )


def is_there(run: str) -> bool:
    """Return whether ZenML has an active run of this name."""
    try:
        found = Client().get_pipeline_run(run, allow_name_prefix_match=False, hydrate=False)
    except KeyError:
        return False
    return not found.status.is_finished


def how_to_stop(run: str, stack: str) -> str:
    """Return the command that stops a run."""
    return f"visionops stop {run} --stack {stack}"


def marks(use_case: str, request: str) -> tuple[list[str], dict[str, str]]:
    """Return the tags and the `extra` that let other clients find a run and its owner.

    Args:
        request: Digest of the run's request; equal for equal commands.
    """
    return [f"{_TAG}-{use_case}"], {_REQUEST: request, _CLIENT: f"{getpass.getuser()}@{platform.node()}"}


def runs_under_way(use_case: str) -> list[RunUnderWay]:
    """Return the active runs of a use case on the active stack, oldest first.

    A run whose Job has ended or is gone does not count, even if ZenML shows it as running.

    Raises:
        DeploymentError: The cluster does not list its Jobs.
    """
    client = Client()
    found = client.list_pipeline_runs(
        tags=[f"{_TAG}-{use_case}"],
        stack_id=client.active_stack_model.id,
        sort_by="desc:created",
        size=_NEWEST,
        hydrate=True,
    )
    pods = orchestrator_namespace()
    alive = [run for run in found.items if _is_alive(run, pods)]
    return [_described(run) for run in reversed(alive)]


def require_idle(use_case: str) -> None:
    """Check that no run of a use case is active on the active stack.

    Raises:
        StackError: A run is active; the message has its owner, its start and the command to stop it.
    """
    if runs := runs_under_way(use_case):
        raise StackError(runs[0].explain(use_case, Client().active_stack_model.name))


def jobs_of(pods: Namespace, run: PipelineRunResponse) -> list[Manifest]:
    """Return the Jobs that a cluster still has for a run, including ended ones."""
    return pods.select("Job", {"run_id": str(run.id)})


def starts_steps(job: Manifest) -> bool:
    """Return whether the pod of a Job starts the steps."""
    return _STARTER in (job["metadata"].get("annotations") or {})


def has_ended(job: Manifest) -> str:
    """Return how a Job has ended, or "" while it is active."""
    conditions: list[dict[str, Any]] = job.get("status", {}).get("conditions") or []
    ends = [one for one in conditions if one["type"] in _ENDS and one["status"] == "True"]
    return ": ".join(text for text in (ends[0]["type"], ends[0].get("message")) if text) if ends else ""


def _is_alive(run: PipelineRunResponse, pods: Namespace | None) -> bool:
    if run.status.is_finished:
        return False
    if pods is None:
        # Whether a run that is being stopped still has a process is unknown.
        return run.status is not ExecutionStatus.STOPPING
    starters = [job for job in jobs_of(pods, run) if starts_steps(job)]
    if not starters:
        return datetime.now(UTC) - _aware(run.created) < _STARTING
    return not all(has_ended(job) for job in starters)


def _described(run: PipelineRunResponse) -> RunUnderWay:
    extra = run.config.extra
    account = run.user.name if run.user else ""
    client = str(extra.get(_CLIENT, ""))
    who = f"{account} ({client})" if account and client else account or client or "somebody"
    return RunUnderWay(run.name, _aware(run.created), who, str(extra.get(_REQUEST, "")))


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
