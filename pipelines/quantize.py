"""Quantize the champion to INT8 and serve it if its loss is within the limit."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.preparation import gate_and_release, prepare_data
from stacks.same_code import require_same_code
from steps.quantize import quantize_champion
from visionops.config import Config

__all__ = ["quantize"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="quantize", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def quantize(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), quantize, then go on as `training` does."""
    prepared, splits, _ = prepare_data(config, source_fingerprint)
    bundle = quantize_champion(prepared, splits, config.quantization_plan)
    gate_and_release(bundle, prepared, config)
