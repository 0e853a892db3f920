"""Search for better training settings with labelled images."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.preparation import prepare_data
from stacks.same_code import require_same_code
from steps.conversion import convert
from steps.tuning import search
from visionops.config import Config

__all__ = ["tuning"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="tuning", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def tuning(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), convert, then search."""
    prepared = prepare_data(config, source_fingerprint).dataset
    converted = convert(prepared, config.conversion_plan)
    search(converted, prepared, config.search_plan)
