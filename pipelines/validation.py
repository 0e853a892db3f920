"""Validate a data set in one step or in shards, as a separate pipeline and as part of every training pipeline."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from stacks.same_code import require_same_code
from steps.data import ingest, join_validation, require_usable, validate_data, validate_shard
from visionops.config import Config
from visionops.data.settings import ValidationPolicy

__all__ = ["shard_id", "validated", "validation"]


# FAIL_FAST raises the step's own error; the other modes only raise "a step failed".
@pipeline(name="validation", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def validation(config: Config, source_fingerprint: str) -> None:
    """Ingest and validate as `training` does, and fail if it would stop, for the CI of a data set."""
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    require_usable(validated(dataset, config.validation))


def validated(dataset: Any, validation: ValidationPolicy) -> Any:
    """Add the validation steps: one, or ``validation.shards`` and one that joins them; return the report's output.

    Call it inside a pipeline.
    """
    policy, shards = validation.without_shards(), validation.shards
    if shards == 1:
        return validate_data(dataset, policy)
    parts = [validate_shard(dataset, policy, n, shards, id=shard_id("validate", n, shards)) for n in range(shards)]
    return join_validation(dataset, parts, policy)


def shard_id(name: str, shard: int, shards: int) -> str:
    """Return the id of a shard's step; the local orchestrator sorts by name, so ids sort in the order of shards."""
    return f"{name}_{shard + 1:0{len(str(shards))}}_of_{shards}"
