"""Labelled images in, a gated and served model out."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from stacks.same_code import require_same_code
from steps.data import ingest, prepare, recall_split_history
from steps.learning import evaluate, train
from steps.release import gate, register, release_model
from visionops.config import Config

__all__ = ["training"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def training(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate, prepare, train, evaluate, register, gate, release.

    Each step is given only the sections it reads, so that a change elsewhere does not run it again.
    """
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    policy = config.validation.without_shards()
    validation = validated(dataset, config.validation)
    history = recall_split_history(config.use_case)
    prepared, _, splits = prepare(dataset, validation, history, config.data, policy, config.use_case)
    bundle = train(prepared, splits, config.training_plan)
    evaluation = evaluate(bundle, prepared, config.scoring)
    version = register(bundle, evaluation, config.use_case)
    decision = gate(version, evaluation, prepared, config.judging)
    release_model(version, decision, prepared, config.serving)
