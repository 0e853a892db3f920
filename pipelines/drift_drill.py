"""Changed test images in, through the live endpoint."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from stacks.same_code import require_same_code
from steps.data import ingest, prepare, recall_split_history
from steps.drill import send_drill
from visionops.config import Config
from visionops.monitoring.drill import Drill

__all__ = ["drift_drill"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="drift_drill", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def drift_drill(config: Config, source_fingerprint: str, drill: Drill) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache); then send."""
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    policy = config.validation.without_shards()
    validation = validated(dataset, config.validation)
    history = recall_split_history(config.use_case)
    prepared, _, _ = prepare(dataset, validation, history, config.data, policy, config.use_case)
    send_drill(prepared, config.use_case, drill)
