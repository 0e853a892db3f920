"""Stop a run on another machine through its orchestrator."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.exceptions import IllegalOperationError
from zenml.models import PipelineRunResponse
from zenml.orchestrators.publish_utils import publish_pipeline_run_status_update, publish_step_run_status_update
from zenml.utils.run_utils import stop_run as stop_zenml_run

from stacks.changes import one_line
from stacks.run_progress import orchestrator_namespace
from stacks.under_way import jobs_of
from visionops.errors import StackError

__all__ = ["close_run", "stop_run"]

_PATIENCE_S = 90.0
"""Seconds to wait for pods to stop. A step on Airflow notices a stop at its next heartbeat, every 15 s."""
_POLL_S = 1.0


def stop_run(name: str, patience: float = _PATIENCE_S) -> None:
    """Stop a run of the active stack and wait for its end.

    Args:
        patience: Seconds until pods that have not stopped by themselves are removed.

    Raises:
        StackError: The run is unknown, has ended, cannot be stopped by its orchestrator, or does not end.
        DeploymentError: The cluster does not answer, or the right to delete Jobs is missing.
    """
    client = Client()
    try:
        run = client.get_pipeline_run(name, allow_name_prefix_match=False)
    except KeyError as error:
        raise StackError(f"run {name!r}: unknown; list the runs with `zenml pipeline runs list`") from error
    if run.status.is_finished:
        raise StackError(f"run {name}: has already ended, as {run.status.value}")
    if run.stack is None or run.stack.id != client.active_stack_model.id:
        where = f"--stack {run.stack.name}" if run.stack else "its stack, which has been removed"
        raise StackError(f"run {name}: belongs to another stack; use {where}")
    pods = orchestrator_namespace()
    try:
        # Only ZenML's Kubernetes orchestrator stops tasks itself: elsewhere steps stop at their next heartbeat.
        stop_zenml_run(run, graceful=pods is None)
    except IllegalOperationError:
        pass  # it has not started, or is being stopped: the code below ends it
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise StackError(f"run {name}: cannot be stopped ({one_line(error)[:300]})") from error
    if _ends(name, patience if run.orchestrator_run_id else 0.0):
        return
    if pods is None and run.orchestrator_run_id:
        raise StackError(f"run {name}: did not stop within {patience:.0f} s; see its task's log")
    if pods is not None:
        for job in jobs_of(pods, run):
            pods.delete("Job", job["metadata"]["name"])
    close_run(run)


def _ends(name: str, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if Client().get_pipeline_run(name, allow_name_prefix_match=False, hydrate=False).status.is_finished:
            return True
        time.sleep(_POLL_S)
    return False


def close_run(run: PipelineRunResponse) -> None:
    """Mark a run without active steps as stopped."""
    for step in Client().get_pipeline_run(run.id).steps.values():
        if not step.status.is_finished:
            publish_step_run_status_update(step.id, ExecutionStatus.STOPPED, end_time=datetime.now(UTC))
    # ZenML turns this into `stopped`, as no step is active.
    if not Client().get_pipeline_run(run.id, hydrate=False).status.is_finished:
        publish_pipeline_run_status_update(run.id, ExecutionStatus.STOPPING, status_reason="Stopped by a client.")
