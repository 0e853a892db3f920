"""Prepare the process of a run before its libraries are imported."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["quieten_libraries", "use_own_sources"]


def quieten_libraries() -> None:
    """Set environment variables so that libraries send no telemetry and log only errors.

    Variables that are already set keep their values. Call this before ZenML and MLflow are imported.
    """
    defaults = {
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_LOGGING_VERBOSITY": "CRITICAL",  # it prints tracebacks of failed steps, whose errors reach us anyway
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
    """Make ZenML name our steps relative to our own folder in every program.

    By default ZenML uses the folder of the program's file. The same step would then have another name and cache in
    each program, and a notebook has no such file.
    """
    from zenml.utils.source_utils import set_custom_source_root

    set_custom_source_root(str(Path(__file__).resolve().parents[1]))
