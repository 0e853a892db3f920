"""Labelled images in, better settings out."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from steps.data import ingest, prepare, recall_split_history
from steps.tuning import search
from visionops.config import Config

__all__ = ["tuning"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="tuning", execution_mode=ExecutionMode.FAIL_FAST)
def tuning(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), then search."""
    dataset = ingest(config.only("data"), source_fingerprint)
    validation = validated(dataset, config)
    history = recall_split_history(config.only())
    prepared, _, _ = prepare(dataset, validation, history, config.only("data", "validation"))
    search(prepared, config.only("training", "serving", "validation", "tuning", "gate"))
