"""Labelled images in, a gated and served model out."""

from __future__ import annotations

from zenml import pipeline
from zenml.enums import ExecutionMode

from pipelines.validation import validated
from steps.data import ingest, prepare, recall_split_history
from steps.learning import evaluate, train
from steps.release import gate, register, release_model
from visionops.config import Config

__all__ = ["training"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="training", execution_mode=ExecutionMode.FAIL_FAST)
def training(config: Config, source_fingerprint: str) -> None:
    """Ingest, validate, prepare, train, evaluate, register, gate, release.

    Each step is given only the sections it reads, so that a change elsewhere does not run it again.
    """
    dataset = ingest(config.only("data"), source_fingerprint)
    validation = validated(dataset, config)
    history = recall_split_history(config.only())
    prepared, _, splits = prepare(dataset, validation, history, config.only("data", "validation"))
    bundle = train(prepared, splits, config.only("training", "serving", "validation"))
    evaluation = evaluate(bundle, prepared, config.only("evaluation", "serving", "gate"))
    version = register(bundle, evaluation, config.only())
    decision = gate(version, evaluation, prepared, config.only("validation", "evaluation", "serving", "gate"))
    release_model(version, decision, prepared, config.only("serving"))
