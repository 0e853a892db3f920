"""Run `run.py` and `zenml` in processes forked from this one, which saves ten seconds of imports per command.

It reads one command per line from standard input as JSON: the program (a Python file), its arguments, additional
variables, and the files for its output. It answers with the exit status. Each command is still a separate process.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from sqlalchemy.orm import configure_mappers

from launch.environment import quieten_libraries

LIBRARIES = (
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.pytorch",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "openvino",
    "optuna",
    "pandas",
    "scipy.stats",
    "torchvision",
    "zenml.client",
    "zenml.integrations.mlflow.experiment_trackers",
    "zenml.orchestrators.local.local_orchestrator",
    "zenml.zen_stores.sql_zen_store",
)


def main() -> None:
    """Serve until standard input ends."""
    quieten_libraries()
    for library in LIBRARIES:
        importlib.import_module(library)
    configure_mappers()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    os._exit(0)


def _run(command: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.update(command["env"])
    sys.argv = [command["program"], *command["arguments"]]
    sys.path[0] = str(Path.cwd())
    status = 0
    try:
        runpy.run_path(command["program"], run_name="__main__")
    except SystemExit as end:
        status = int(end.code or 0)
    # Exit like any process, but without freeing the forked objects, which would copy all of their memory.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
