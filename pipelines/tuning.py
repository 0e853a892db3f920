"""Labelled images in, better settings out."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from stacks.same_code import require_same_code
from steps.data import ingest, prepare, recall_split_history
from steps.tuning import search
from visionops.config import Config

__all__ = ["tuning"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="tuning", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def tuning(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), then search."""
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    policy = config.validation.without_shards()
    validation = validated(dataset, config.validation)
    history = recall_split_history(config.use_case)
    prepared, _, _ = prepare(dataset, validation, history, config.data, policy, config.use_case)
    search(prepared, config.search_plan)
