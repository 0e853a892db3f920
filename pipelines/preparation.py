"""Provide the steps that pipelines share: preparing data, and judging and serving a model."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.validation import validated
from steps.data import ingest, prepare, recall_split_history
from steps.release import gate, register, release_model
from steps.review import read_reviewed
from steps.training import evaluate
from visionops.config import Config
from visionops.data.settings import ReviewSource

__all__ = ["Prepared", "gate_and_release", "prepare_data"]


class Prepared(NamedTuple):
    """Outputs of the step `prepare`."""

    dataset: Any
    splits: Any
    """History of splits, including this data set."""
    reviewed: dict[str, Any]
    """Arguments of `train` from a review; empty if ``data.additions`` is not a review."""


def prepare_data(config: Config, source_fingerprint: str, *, makes_version: bool = False) -> Prepared:
    """Add the steps from the source to a clean and split data set; call it inside a pipeline.

    Args:
        makes_version: Whether to create a data version from the added review first.
    """
    reviewed: dict[str, Any] = {}
    source = config.data.additions
    if isinstance(source, ReviewSource):
        images, version = read_reviewed(source, config.use_case, config.data.white_level, makes_version)
        reviewed = {"reviewed": images, "review_version": version}
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    policy = config.validation.without_shards()
    validation = validated(dataset, config.validation)
    history = recall_split_history(config.use_case)
    # New labels are not part of the output of `ingest`, so a fingerprint of their files goes into this cache key.
    added = "" if config.data.additions is None or reviewed else source_fingerprint
    prepared, _, splits = prepare(
        dataset, validation, history, config.data, policy, config.use_case, additions_fingerprint=added, **reviewed
    )
    reviewed.pop("reviewed", None)
    return Prepared(prepared, splits, reviewed)


def gate_and_release(bundle: Any, prepared: Any, config: Config) -> Any:
    """Add the steps from a bundle to its endpoint; call it inside a pipeline.

    Args:
        bundle: Output of a step.
        prepared: Data set of `prepare_data`.

    Returns:
        Output of `register`, the version.
    """
    evaluation = evaluate(bundle, prepared, config.scoring)
    version = register(bundle, evaluation, config.use_case)
    decision = gate(version, evaluation, prepared, config.gate_plan)
    release_model(version, decision, prepared, config.serving)
    return version
