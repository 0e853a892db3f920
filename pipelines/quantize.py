"""The champion in, the same in INT8 out; served if it loses little enough."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from steps.data import ingest, prepare, recall_split_history
from steps.learning import evaluate
from steps.quantize import quantize_champion
from steps.release import gate, register, release_model
from visionops.config import Config

__all__ = ["quantize"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="quantize", execution_mode=ExecutionMode.FAIL_FAST)
def quantize(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), quantize; then as `training` goes on."""
    dataset = ingest(config.only("data"), source_fingerprint)
    validation = validated(dataset, config)
    history = recall_split_history(config.only())
    prepared, _, splits = prepare(dataset, validation, history, config.only("data", "validation"))
    bundle = quantize_champion(prepared, splits, config.only("quantization", "serving", "gate"))
    evaluation = evaluate(bundle, prepared, config.only("evaluation", "serving", "gate"))
    version = register(bundle, evaluation, config.only())
    judging = config.only("validation", "evaluation", "serving", "gate", "quantization")
    decision = gate(version, evaluation, prepared, judging)
    release_model(version, decision, prepared, config.only("serving"))
