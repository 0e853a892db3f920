"""The champion in, the same in INT8 out; served if it loses little enough."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.preparation import judge_and_release, prepare_data
from stacks.same_code import require_same_code
from steps.quantize import quantize_champion
from visionops.config import Config

__all__ = ["quantize"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="quantize", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def quantize(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), quantize; then as `training` goes on."""
    prepared, splits, _ = prepare_data(config, source_fingerprint)
    bundle = quantize_champion(prepared, splits, config.quantization_plan)
    judge_and_release(bundle, prepared, config)
