"""What the process of a run needs before its libraries are imported."""

from __future__ import annotations

import os

__all__ = ["quieten_libraries"]


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
