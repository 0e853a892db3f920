"""What the endpoint was asked in, what changed out."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from steps.monitoring import compare_traffic
from visionops.config import Config

__all__ = ["monitoring"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="monitoring", execution_mode=ExecutionMode.FAIL_FAST)
def monitoring(config: Config) -> None:
    """Compare the champion's latest predictions with its own of the val split."""
    compare_traffic(config.only("monitoring"))
