"""What the pipelines share that need data ready for learning, and a model judged and served."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.validation import validated
from steps.data import ingest, prepare, recall_split_history
from steps.learning import evaluate
from steps.release import gate, register, release_model
from visionops.config import Config

__all__ = ["Prepared", "judge_and_release", "prepare_data"]


class Prepared(NamedTuple):
    """Outputs of the step `prepare`."""

    dataset: Any
    splits: Any
    """The history of splits, with those of this data set."""


def prepare_data(config: Config, source_fingerprint: str) -> Prepared:
    """Add the steps from the source to a clean and split data set. Call it where a pipeline is put together."""
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    policy = config.validation.without_shards()
    validation = validated(dataset, config.validation)
    history = recall_split_history(config.use_case)
    prepared, _, splits = prepare(dataset, validation, history, config.data, policy, config.use_case)
    return Prepared(prepared, splits)


def judge_and_release(bundle: Any, prepared: Any, config: Config) -> None:
    """Add the steps from a bundle to its endpoint. Call it where a pipeline is put together.

    Args:
        bundle: Output of a step.
        prepared: The data set of `prepare_data`.
    """
    evaluation = evaluate(bundle, prepared, config.scoring)
    version = register(bundle, evaluation, config.use_case)
    decision = gate(version, evaluation, prepared, config.judging)
    release_model(version, decision, prepared, config.serving)
