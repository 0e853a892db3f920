"""Serve the champion again, or the previous one."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from stacks.same_code import require_same_code
from steps.release import restore_model
from visionops.config import Config

__all__ = ["deployment"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="deployment", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def deployment(config: Config, rollback: bool = False) -> None:
    """Serve the champion; with ``rollback``, restore and serve the previous champion."""
    restore_model(config.use_case, config.serving, rollback)
