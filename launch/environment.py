"""What the process of a run needs before its libraries are imported."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["quieten_libraries", "use_own_sources"]


def quieten_libraries() -> None:
    """Set the environment variables by which libraries send no telemetry and log only what is wrong.

    A variable that is set already keeps its value. Call it before ZenML and MLflow are imported.
    """
    defaults = {
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "CRITICAL",  # it prints a trace of each failed step; the error reaches us anyway
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "DO_NOT_TRACK": "1",
        "AUTO_OPEN_DASHBOARD": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def use_own_sources() -> None:
    """Let ZenML name our steps from our own folder, whichever program runs.

    By itself it takes the folder of the program's file: the same step would then have one name, and one cache, for each
    program, and there is none in a notebook.
    """
    from zenml.utils.source_utils import set_custom_source_root

    set_custom_source_root(str(Path(__file__).resolve().parents[1]))
