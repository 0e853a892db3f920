"""The champion into service again, or the one before it."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from stacks.same_code import require_same_code
from steps.release import restore_model
from visionops.config import Config

__all__ = ["deployment"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="deployment", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def deployment(config: Config, rollback: bool = False) -> None:
    """Serve the champion; with ``rollback``, make the champion before it the champion and serve that."""
    restore_model(config.use_case, config.serving, rollback)
