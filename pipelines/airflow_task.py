"""``python -m pipelines.airflow_task …``: run one step as a task of an Airflow on this machine.

Takes the arguments of ZenML's own entrypoint. Beyond what that does, the step ends with its task however that dies, waits
for other work on its use case, and is not run again when it has finished already: a task that is killed between the two
is tried again by Airflow.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from zenml.client import Client
from zenml.entrypoints import StepEntrypointConfiguration
from zenml.execution.pipeline.utils import prevent_pipeline_execution
from zenml.utils.source_utils import set_custom_source_root

from stacks.airflow_dag import ENV_ZENML_AIRFLOW_RUN_ID
from stacks.integrations import leave_out_unused_integrations
from steps.progress import announce

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the step that the arguments name, unless it has finished."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m pipelines.airflow_task")
    parser.add_argument("--snapshot_id", required=True)
    parser.add_argument("--step_name", required=True)
    options, _ = parser.parse_known_args(words)
    _die_with_airflow()
    set_custom_source_root(str(_ROOT))
    leave_out_unused_integrations()
    if _has_finished(options.snapshot_id, options.step_name):
        announce(f"{options.step_name}: finished before its task was killed; not run again")
        return 0
    with prevent_pipeline_execution():
        StepEntrypointConfiguration(words).run()
    return 0


def _die_with_airflow() -> None:
    """Else a step whose task was killed would go on beside its next try."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DIES_WITH_PARENT, signal.SIGKILL)


def _has_finished(snapshot_id: str, step_name: str) -> bool:
    run_id = os.environ[ENV_ZENML_AIRFLOW_RUN_ID]
    runs = Client().list_pipeline_runs(orchestrator_run_id=run_id, snapshot_id=snapshot_id).items
    step = runs[0].steps.get(step_name) if runs else None
    return step is not None and step.status.is_successful


if __name__ == "__main__":
    sys.exit(main())
