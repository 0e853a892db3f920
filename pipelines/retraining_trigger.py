"""Exit with `NOTHING_TO_DO` unless the monitoring of this Airflow run requested a training.

Run it as ``python -m pipelines.retraining_trigger --snapshot_id ID``; it is the last task but one of a monitoring DAG.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from zenml.client import Client

from stacks.airflow_dag import ENV_ZENML_AIRFLOW_RUN_ID, NOTHING_TO_DO
from stacks.same_code import require_same_code
from steps.progress import announce
from visionops.monitoring.policy import Action, Decision

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program, ignoring arguments for the step itself."""
    require_same_code()
    parser = argparse.ArgumentParser(prog="python -m pipelines.retraining_trigger")
    parser.add_argument("--snapshot_id", required=True)
    parser.add_argument("--step_name", required=True)
    options, _ = parser.parse_known_args(arguments)
    run_id = os.environ[ENV_ZENML_AIRFLOW_RUN_ID]
    # Two use cases monitored in the same minute have runs of the same name.
    (run,) = Client().list_pipeline_runs(orchestrator_run_id=run_id, snapshot_id=options.snapshot_id).items
    decision: Decision = run.steps[options.step_name].outputs["retraining"][0].load()
    announce(decision.sentence)
    return 0 if decision.action == Action.RETRAIN else NOTHING_TO_DO


if __name__ == "__main__":
    sys.exit(main())
