"""The champion in, the same in INT8 out; served if it loses little enough."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from stacks.same_code import require_same_code
from steps.data import ingest, prepare, recall_split_history
from steps.learning import evaluate
from steps.quantize import quantize_champion
from steps.release import gate, register, release_model
from visionops.config import Config

__all__ = ["quantize"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="quantize", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def quantize(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate and prepare as `training` does (and from its cache), quantize; then as `training` goes on."""
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    policy = config.validation.without_shards()
    validation = validated(dataset, config.validation)
    history = recall_split_history(config.use_case)
    prepared, _, splits = prepare(dataset, validation, history, config.data, policy, config.use_case)
    bundle = quantize_champion(prepared, splits, config.quantization_plan)
    evaluation = evaluate(bundle, prepared, config.scoring)
    version = register(bundle, evaluation, config.use_case)
    decision = gate(version, evaluation, prepared, config.judging)
    release_model(version, decision, prepared, config.serving)
