"""Follow a run on another machine to its end, whoever started it."""

from __future__ import annotations

import time
from collections.abc import Callable

from zenml.client import Client
from zenml.models import PipelineRunResponse

from stacks.changes import one_line
from stacks.deployers.api import Namespace
from stacks.deployers.trouble import find_trouble
from stacks.refused_pods import JOB_LABEL, refused_pods
from stacks.run_progress import StepLines, orchestrator_namespace, step_states
from stacks.under_way import has_ended, jobs_of, starts_steps
from visionops.errors import StackError

__all__ = ["follow_run"]

_POLL_S = 5.0
_LATE = 3
"""Number of polls after the end of a run's Job for which ZenML may still show the run as active."""


def follow_run(name: str, show: Callable[[str], None]) -> PipelineRunResponse:
    """Show the steps of a run until it has ended, and return the ended run.

    Args:
        show: Function that receives one line for each change.

    Raises:
        StackError: The pod that starts the steps will never start.
        RuntimeError: The Job that starts the steps has ended, so the run will never end.
    """
    lines, pods = StepLines(), orchestrator_namespace()
    problem, starter, late = "", "", 0
    while True:
        try:
            run = Client().get_pipeline_run(name, allow_name_prefix_match=False)
            for line in lines.update(step_states(run, pods)):
                show(line)
            if run.status.is_finished and not run.in_progress:
                return run
            waits, ended = _starter(pods, run)
            problem = ""
        except _Hopeless:
            raise
        except Exception as error:  # noqa: BLE001 - ZenML's or the cluster's client failed; the run continues
            if problem != (problem := one_line(error)[:200]):
                show(f"cannot read the run now ({problem})")
        else:
            if waits and waits != starter:
                show(f"run: waits; {waits}")
            starter, late = waits, late + 1 if ended else 0
            if late > _LATE:
                raise RuntimeError(f"run {name}: {ended}, but the run stays {run.status.value}")
        time.sleep(_POLL_S)


class _Hopeless(StackError):
    """The pod that starts the steps will never run."""


def _starter(pods: Namespace | None, run: PipelineRunResponse) -> tuple[str, str]:
    """Return why the pod that starts the steps does not run yet, and how its Job has ended; each may be "".

    Raises:
        _Hopeless: The pod will never run.
    """
    if pods is None:
        return "", ""
    jobs = [job for job in jobs_of(pods, run) if starts_steps(job)]
    if not jobs:
        return "", "the Job that starts its steps is gone"
    if reasons := [reason for job in jobs if (reason := has_ended(job))]:
        return "", f"the Job that starts its steps has ended ({reasons[0]})"
    names = {job["metadata"]["name"] for job in jobs}
    own = [
        pod for pod in pods.select("Pod", {"run_id": str(run.id)}) if pod["metadata"]["labels"].get(JOB_LABEL) in names
    ]
    pending = [pod for pod in own if pod.get("status", {}).get("phase") in {None, "Pending"}]
    is_fatal, waits = find_trouble(pods, pending)
    for is_final, why in refused_pods(pods, jobs, own).values():
        is_fatal, waits = is_final, why
    if is_fatal:
        raise _Hopeless(f"run {run.name}: {waits}")
    return waits, ""
