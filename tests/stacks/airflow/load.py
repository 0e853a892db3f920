"""Load the DAGs of a folder as Airflow does, and write them with each task's pod as JSON.

>>> .airflow/bin/python tests/stacks/airflow/load.py FOLDER RESULT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from kubernetes.client import ApiClient


def describe(task: Any) -> dict[str, Any]:
    """Return the task's operator, its predecessors, the pod it would create and the DAG it would start."""
    pods = hasattr(task, "build_pod_request_obj")
    return {
        "operator": type(task).__name__,
        "upstream": sorted(task.upstream_task_ids),
        "pod": ApiClient().sanitize_for_serialization(task.build_pod_request_obj()) if pods else None,
        "skips_on": getattr(task, "skip_on_exit_code", None),
        "starts": getattr(task, "trigger_dag_id", None),
    }


bag = DagBag(sys.argv[1])
dags = {
    dag.dag_id: {
        "schedule": dag.schedule,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tasks": {task.task_id: describe(task) for task in dag.tasks},
    }
    for dag in bag.dags.values()
}
Path(sys.argv[2]).write_text(json.dumps({"errors": bag.import_errors, "dags": dags}))
