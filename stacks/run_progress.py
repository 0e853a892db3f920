"""Show the progress of a run's steps on other machines in the terminal of the waiting client."""

from __future__ import annotations

import dataclasses
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from zenml.client import Client
from zenml.enums import ExecutionStatus
from zenml.models import PipelineRunResponse

from stacks.changes import one_line
from stacks.deployers.api import Namespace
from stacks.deployers.manifests.identity import Manifest
from stacks.deployers.manifests.settings import reaching
from stacks.deployers.trouble import find_trouble
from stacks.refused_pods import refused_pods

__all__ = ["StepLines", "StepState", "new_run_name", "orchestrator_namespace", "printed_steps", "step_states"]

_POLL_SECONDS = 5.0
_REMINDER_SECONDS = 600.0
"""Seconds after which a step that still runs is shown again."""
_STEP_ANNOTATION = "zenml.io/step-name"
_ENDS = {
    ExecutionStatus.COMPLETED: "done in",
    ExecutionStatus.FAILED: "failed after",
    ExecutionStatus.STOPPED: "stopped after",
    ExecutionStatus.RETRIED: "failed, will be retried, after",
}


@dataclasses.dataclass(frozen=True, slots=True)
class StepState:
    """State of a step."""

    status: ExecutionStatus
    seconds: float = 0.0
    """Seconds from its start to its end, or to now."""
    waits: str = ""
    """Reason why its pod does not run yet; "" otherwise."""
    log: str = ""
    """Command that follows its log; "" if the steps are not pods."""


class StepLines:
    """Turns each change of a run's steps into one line."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def update(self, steps: Mapping[str, StepState]) -> list[str]:
        """Return the lines for what has changed since the last call, in the order of ``steps``."""
        lines = []
        for name, state in steps.items():
            key = state.waits or f"{state.status.value} {_reminders(state)}"
            if self._said.get(name) != key:
                self._said[name] = key
                lines.append(f"{name}: {_words(state)}")
        return lines


def _words(state: StepState) -> str:
    if state.waits:
        return f"waits; {state.waits}"
    if state.status is ExecutionStatus.CACHED:
        return "cached from an earlier run"
    if end := _ENDS.get(state.status):
        return f"{end} {state.seconds:.0f} s"
    if state.status is not ExecutionStatus.RUNNING:
        return str(state.status.value)
    runs = f"runs for {state.seconds / 60:.0f} min" if _reminders(state) else "runs"
    return f"{runs}; log: {state.log}" if state.log else runs


def _reminders(state: StepState) -> int:
    """Return how many times a running step should have been shown again."""
    return int(state.seconds // _REMINDER_SECONDS) if state.status is ExecutionStatus.RUNNING else 0


def new_run_name(pipeline: str) -> str:
    """Return a unique name for a run, in ZenML's format."""
    return f"{pipeline}-{datetime.now(UTC):%Y_%m_%d-%H_%M_%S_%f}"


@contextmanager
def printed_steps(run: str, show: Callable[[str], None], poll_seconds: float = _POLL_SECONDS) -> Iterator[None]:
    """Show the steps of a run on the active stack while the block starts it and waits for its end.

    Args:
        run: Name of the run, which need not exist yet.
        show: Function that receives one line at a time, called from another thread.
    """
    ended, lines = threading.Event(), StepLines()
    pods = orchestrator_namespace()

    def look() -> None:
        for line in lines.update(step_states(Client().get_pipeline_run(run, allow_name_prefix_match=False), pods)):
            show(line)

    def watch() -> None:
        problem = ""
        while not ended.wait(poll_seconds):
            try:
                look()
                problem = ""
            except KeyError:
                continue  # not created yet
            except Exception as error:  # noqa: BLE001 - ZenML's or the cluster's client failed; the run continues
                if problem != (problem := one_line(error)[:200]):
                    show(f"cannot read the steps now ({problem})")

    thread = threading.Thread(target=watch, name="run-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(poll_seconds + 1)
        try:
            look()
        except Exception as error:  # noqa: BLE001 - as above; the waiting caller reports how the run ended
            show(f"cannot read how the last steps ended ({one_line(error)[:200]})")


def step_states(found: PipelineRunResponse, pods: Namespace | None) -> dict[str, StepState]:
    """Return the states of a run's steps.

    Args:
        pods: Namespace of the steps' pods, to report why one does not start, and how to read its log; None elsewhere.
    """
    now = datetime.now(UTC)
    own = pods.select("Pod", {"run_id": str(found.id)}) if pods else []
    logs = _log_commands(pods, own) if pods else {}
    states = {}
    for name, step in found.steps.items():
        begin, end = step.start_time, step.end_time or now
        seconds = (_aware(end) - _aware(begin)).total_seconds() if begin else 0.0
        states[name] = StepState(step.status, seconds, log=logs.get(name, ""))
    for name, why in _waiting(pods, str(found.id), own).items():
        if name not in states or not states[name].status.is_finished:
            states[name] = StepState(ExecutionStatus.INITIALIZING, waits=why)
    return states


def _log_commands(pods: Namespace, own: list[Manifest]) -> dict[str, str]:
    """Return for each step the command that follows the log of its newest pod."""
    by_age = sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    return {_step(pod): shlex.join([*pods.kubectl, "logs", "--follow", pod["metadata"]["name"]]) for pod in by_age}


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _waiting(pods: Namespace | None, run: str, own: list[Manifest]) -> dict[str, str]:
    """Return the steps whose pods do not run, and why; ``own`` are the pods of the run."""
    if pods is None:
        return {}
    found = {}
    for pod in own:
        name = _step(pod)
        if name and pod.get("status", {}).get("phase") in {None, "Pending"} and (why := find_trouble(pods, [pod])[1]):
            found[name] = why
    jobs = {job["metadata"]["name"]: job for job in pods.select("Job", {"run_id": run}) if _waits(job)}
    for name, (_, why) in refused_pods(pods, list(jobs.values()), own).items():
        found[_step(jobs[name])] = why
    return found


def _step(of: Manifest) -> str:
    """Return the step of a pod or a Job; "" if it is not for a step."""
    return str((of["metadata"].get("annotations") or {}).get(_STEP_ANNOTATION, ""))


def _waits(job: Manifest) -> bool:
    return bool(_step(job)) and not job.get("status", {}).get("conditions")


def orchestrator_namespace() -> Namespace | None:
    """Return the namespace of the active stack's pods; None if its steps are not pods that we can read."""
    orchestrator = Client().active_stack.orchestrator
    if orchestrator.flavor != "kubernetes":
        return None
    own = orchestrator.config
    return Namespace(
        reaching(
            str(getattr(own, "kubernetes_namespace", "") or ""),
            str(getattr(own, "kubernetes_context", "") or ""),
            incluster=bool(getattr(own, "incluster", False)),
        )
    )
