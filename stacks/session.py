"""Prepare a stack for a run: apply and activate it, check that it answers, and lock the use case."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from zenml.client import Client
from zenml.enums import ExecutionStatus, StackComponentType
from zenml.models import PipelineRunResponse
from zenml.models.v2.misc.exception_info import ExceptionInfo
from zenml.pipelines.pipeline_definition import Pipeline

from stacks.active import active_stack, viewed_stack
from stacks.apply import ensure, known_stacks
from stacks.changes import one_line
from stacks.deployers.admission import cluster_message, explain_denial
from stacks.first_use import opened_in_turn
from stacks.integrations import leave_out_unused_integrations
from stacks.paths import require_usable_paths
from stacks.refused_pods import refused_job
from stacks.registry import active_registry_uri
from stacks.run_options import IN_THIS_PROCESS, DagPlan, run_options
from stacks.run_progress import orchestrator_namespace
from stacks.spec import load_stack
from stacks.trackers.experiments import ensure_experiment
from stacks.tracking import prepare_tracker
from stacks.under_way import jobs_of, require_idle, starts_steps
from stacks.use_case_lock import use_case_lock
from stacks.validators.active import require_roles
from stacks.zenml_server import active_stack_name, require_zenml_server
from visionops.data.settings import DataConfig, ReviewSource
from visionops.errors import DeploymentError, StackError, VisionOpsError
from visionops.home import visionops_home
from visionops.registry import ModelRegistry, brief_waits

__all__ = [
    "Session",
    "errors_in_one_line",
    "open_registry",
    "open_session",
    "placement",
    "require_success",
    "runs_elsewhere",
    "steps_run_here",
]


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """Stack properties that a run needs."""

    stack: str
    dags: str = ""
    """Folder from which Airflow reads pipelines to run on their schedule; "" if they run now."""


@contextmanager
def open_session(use_case: str, stack: str | None, *, works_here: bool = False) -> Iterator[Session]:
    """Make a stack ready for one run of ``use_case``.

    Args:
        stack: Name of the stack; None for the active one, or `local` if none of ours is active yet.
        works_here: Whether this process itself does the work, even if the stack's steps run elsewhere.

    Raises:
        StackError: A library cannot use a path, the stack is unknown or cannot be applied, ZenML's server does not
            answer, the experiment tracker has no adapter, or a flavor cannot be imported.
        RegistryError: The registry does not answer, which is checked before hours of training.
        VisionOpsError: Another run of the same use case is active.

    If the steps run elsewhere, ZenML's server tracks the runs and the use case is not locked on this machine.
    """
    require_usable_paths()
    with ExitStack() as held:
        opening = held.enter_context(ExitStack())
        opening.enter_context(opened_in_turn())
        require_zenml_server()
        leave_out_unused_integrations()
        name = stack or active_stack_name()
        if name in known_stacks():
            ensure(name)
        client = Client()
        held.enter_context(active_stack(client, name, keep=stack is None))
        held.enter_context(brief_waits())
        try:
            if works_here or steps_run_here():
                held.enter_context(use_case_lock(use_case))
            if works_here and not steps_run_here():
                require_idle(use_case)
            prepare_tracker(use_case)
        except ImportError as error:  # this loads the stack first, and a user's own flavor may be missing
            raise StackError(f"stack {name!r}: {one_line(error)}") from error
        uri = active_registry_uri()
        ModelRegistry(uri).ping()
        ensure_experiment(uri, use_case, visionops_home() / "mlflow" / "artifacts")
        opening.close()
        config = client.active_stack.orchestrator.config
        yield Session(name, str(getattr(config, "dag_output_dir", None) or ""))


def open_registry(stack: str | None) -> ModelRegistry:
    """Return the model registry of a stack for reading; nothing is applied or locked, and runs may be active.

    Args:
        stack: Name of the stack; None for the active one.

    Raises:
        StackError: The stack is unknown, or has no registry.
    """
    with viewed_stack(stack), opened_in_turn():
        return ModelRegistry(active_registry_uri())


def placement(pipeline: Pipeline, dag: DagPlan | None = None, **inputs: Any) -> dict[str, Any]:
    """Return the arguments of ``pipeline``'s `with_options` from the active stack's file.

    Args:
        dag: Schedule, for Airflow.
        inputs: Arguments of the pipeline's call, which determine its steps.

    Raises:
        StackError: As `run_options`, or the stack has no data validator for a step of the pipeline.
    """
    prepared = pipeline.copy()
    prepared.prepare(**inputs)
    steps = {runs_as: invocation.step.name for runs_as, invocation in prepared.invocations.items()}
    require_roles(steps.values())
    name = Client().active_stack_model.name
    if name not in known_stacks():
        return {}
    given = [value for invocation in prepared.invocations.values() for value in invocation.parameters.values()]
    return run_options(load_stack(name), steps, dag, reads_review=any(map(_names_review, given)))


def _names_review(parameter: Any) -> bool:
    return isinstance(parameter, DataConfig) and isinstance(parameter.additions, ReviewSource)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn errors into one line while a pipeline is submitted, and while it runs elsewhere.

    Raises:
        StackError: The orchestrator refuses the pipeline, or a step has failed elsewhere. Errors of steps that run
            here pass unchanged.
    """
    try:
        yield
    except Exception as error:  # an orchestrator's client library has its own error classes
        name, orchestrator = Client().active_stack_model.name, Client().active_stack.orchestrator
        if isinstance(error, VisionOpsError) or orchestrator.flavor in IN_THIS_PROCESS:
            raise
        said = cluster_message(error)
        what = explain_denial(said)[1] or said or one_line(error)
        raise StackError(
            f"stack {name!r}: {what[:500]}; see the logs of its pods or the dashboard, "
            f"or check the stack with visionops stack doctor {name}"
        ) from error


def steps_run_here() -> bool:
    """Return whether the active stack's steps run in this process."""
    # Read from ZenML's records: loading the stack imports its tracker's library, which `prepare_tracker` sets up first.
    orchestrators = Client().active_stack_model.components[StackComponentType.ORCHESTRATOR]
    return orchestrators[0].flavor_name in IN_THIS_PROCESS


def runs_elsewhere() -> bool:
    """Return whether the active stack's steps run now but in another process, so that their output is not visible."""
    orchestrator = Client().active_stack.orchestrator
    return orchestrator.flavor not in IN_THIS_PROCESS and not getattr(orchestrator.config, "dag_output_dir", None)


def require_success(run: PipelineRunResponse | None) -> None:
    """Check that a run succeeded: an orchestrator elsewhere may end without error although a step has failed.

    Args:
        run: The run; None if it is only scheduled.

    Raises:
        StackError: A step has failed, or the run was stopped.
    """
    if run is None:
        return
    now = Client().get_pipeline_run(run.id)
    if now.status in {ExecutionStatus.STOPPED, ExecutionStatus.CANCELLED}:
        raise StackError(f"run {now.name}: was stopped; run the same command to start it again")
    if now.status == ExecutionStatus.FAILED:
        failed = {name: step for name, step in now.steps.items() if step.status == ExecutionStatus.FAILED}
        where = f" at {', '.join(failed)}" if failed else ""
        # Jobs, pods and their logs may be gone by now; a step's exception is stored with its run.
        why = next((said for step in failed.values() if (said := _reason(step.exception_info))), "")
        why = why or _refused(now) or "see the step's log in ZenML's dashboard, or its pod's log"
        raise StackError(f"run {now.name}: failed{where}; {why}")


def _refused(run: PipelineRunResponse) -> str:
    """Return the cluster's answer when it denied a step; "" if it denied none."""
    pods = orchestrator_namespace()
    try:
        return refused_job(pods, [job for job in jobs_of(pods, run) if starts_steps(job)]) if pods else ""
    except DeploymentError:  # report the failed run without this detail
        return ""


def _reason(info: ExceptionInfo | None) -> str:
    """Return a step's exception in one line; "" if ZenML did not store it."""
    if info is None:
        return ""
    lines = [line.strip() for line in info.traceback.splitlines() if line.strip()]
    source, said = info.source or "", " ".join((info.message or "").split())
    if not said:
        return lines[-1] if lines else ""
    return said if source.startswith("visionops.") else f"{source.rpartition('.')[2]}: {said}"
