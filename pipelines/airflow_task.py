"""Run one step as a task of an Airflow on this machine: ``python -m pipelines.airflow_task …``.

It takes the arguments of ZenML's own entrypoint. In addition, the step dies with its task and waits for other work on
its use case. It does not run again if it has already finished or its run was stopped, because Airflow retries a task
that was killed after the end of its step or that ended because of the stop.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from zenml.client import Client
from zenml.entrypoints import StepEntrypointConfiguration
from zenml.enums import ExecutionStatus
from zenml.execution.pipeline.utils import prevent_pipeline_execution
from zenml.models import PipelineRunResponse, StepRunResponse
from zenml.orchestrators.publish_utils import publish_failed_pipeline_run, publish_failed_step_run
from zenml.utils.source_utils import set_custom_source_root

from stacks.airflow_dag import ENV_ZENML_AIRFLOW_RUN_ID
from stacks.integrations import leave_out_unused_integrations
from stacks.parent_death import die_with_parent
from stacks.same_code import CODE_VARIABLE, code_digest
from stacks.stopping import close_run
from stacks.use_case_lock import use_case_lock
from steps.progress import announce
from visionops.errors import StackError, VisionOpsError

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_STOPPED = {ExecutionStatus.STOPPED, ExecutionStatus.STOPPING}


class _StepHere(StepEntrypointConfiguration):
    """ZenML's entrypoint for a step, in the folder with our code."""

    def prepare_code_environment(self) -> None:
        """Stay in this folder, because ZenML would change to /app, which exists in containers only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the step that the arguments name, unless it has finished.

    Returns:
        2 after an error that a user can fix, which is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="python -m pipelines.airflow_task")
    parser.add_argument("--use_case", required=True)
    parser.add_argument("--gave_up", action="store_true", help="record that the step's last try has failed")
    options, words = parser.parse_known_args(arguments)
    die_with_parent()  # otherwise a step whose task was killed would run in parallel with its next try
    set_custom_source_root(str(_ROOT))
    leave_out_unused_integrations()
    try:
        if options.gave_up:
            _give_up(words)
            return 0
        _require_code_of_the_dag()
        with use_case_lock(options.use_case, lambda: announce(f"{options.use_case}: waits for another run's step")):
            _run(words)
    except Exception as error:  # ZenML wraps exceptions of steps
        if (said := _of_ours(error)) is None:
            raise
        sys.stderr.write(f"error: {said}\n")
        return 2
    return 0


def _run(words: Sequence[str]) -> None:
    step_name, run, tries = _present(words)
    if run and run.status in _STOPPED:
        close_run(run)  # the step was killed before it noticed the stop
        raise StackError(f"run {run.name}: was stopped; run its command again, or trigger the DAG again")
    if run and any(step.status.is_successful for step in tries):
        announce(f"{step_name}: finished before its task was killed; not run again")
        return
    if run and (run.status.is_failed or (tries and not tries[-1].is_retriable)):
        raise StackError(
            f"run {run.name}: {step_name} was tried {len(tries)} times, so the run has failed for good; "
            "trigger the DAG again instead of clearing its tasks"
        )
    with prevent_pipeline_execution():
        _StepHere(list(words)).run()


def _require_code_of_the_dag() -> None:
    wanted, here = os.environ.get(CODE_VARIABLE), code_digest()
    if wanted != here:
        raise StackError(
            f"{_ROOT}: its code ({here}) differs from the code that created this DAG ({wanted}); create it again "
            "with the same command"
        )


def _give_up(words: Sequence[str]) -> None:
    """Mark ZenML's run as failed if a killed try has left it active."""
    _, run, tries = _present(words)
    if tries and not tries[-1].status.is_finished:
        publish_failed_step_run(tries[-1].id)
    if run and not run.status.is_finished:
        publish_failed_pipeline_run(run.id)


def _present(words: Sequence[str]) -> tuple[str, PipelineRunResponse | None, list[StepRunResponse]]:
    """Return the step's name, the run of this DAG run (None before its first step), and the step's tries in order."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.airflow_task")
    parser.add_argument("--snapshot_id", required=True)
    parser.add_argument("--step_name", required=True)
    options, _ = parser.parse_known_args(words)
    run_id, name = os.environ[ENV_ZENML_AIRFLOW_RUN_ID], options.step_name
    runs = Client().list_pipeline_runs(orchestrator_run_id=run_id, snapshot_id=options.snapshot_id).items
    if not runs:
        return name, _stopped_before_its_start(options.snapshot_id), []
    found = Client().list_run_steps(pipeline_run_id=runs[0].id, name=name, exclude_retried=False).items
    return name, runs[0], sorted(found, key=lambda step: step.version)


def _stopped_before_its_start(snapshot: str) -> PipelineRunResponse | None:
    """Return the run that a client created when it submitted the DAG, if it was stopped before Airflow started.

    ZenML does not connect that run with this DAG run and would create another one.
    """
    stopped = Client().list_pipeline_runs(snapshot_id=snapshot, status=ExecutionStatus.STOPPED.value).items
    return next((run for run in stopped if not run.orchestrator_run_id), None)


def _of_ours(error: BaseException | None) -> VisionOpsError | None:
    while error is not None and not isinstance(error, VisionOpsError):
        error = error.__cause__ or error.__context__
    return error


if __name__ == "__main__":
    sys.exit(main())
