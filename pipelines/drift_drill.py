"""Send changed test images to the live endpoint."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.preparation import prepare_data
from stacks.same_code import require_same_code
from steps.drill import send_drill
from visionops.config import Config
from visionops.monitoring.drill import Drill

__all__ = ["drift_drill"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="drift_drill", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def drift_drill(config: Config, source_fingerprint: str, drill: Drill) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), then send."""
    prepared = prepare_data(config, source_fingerprint).dataset
    send_drill(prepared, config.use_case, drill)
