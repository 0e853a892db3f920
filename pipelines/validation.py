"""Validation, in one step or in shards: a pipeline of its own, and a part of every pipeline that learns."""

from __future__ import annotations

from typing import Any

from zenml import pipeline
from zenml.enums import ExecutionMode

from stacks.same_code import require_same_code
from steps.data import ingest, join_validation, require_usable, validate_data, validate_shard
from visionops.config import Config
from visionops.data.settings import ValidationPolicy

__all__ = ["shard_id", "validated", "validation"]


# FAIL_FAST raises the error of the step; the other modes raise "a step failed".
@pipeline(name="validation", execution_mode=ExecutionMode.FAIL_FAST, on_init=require_same_code)
def validation(config: Config, source_fingerprint: str) -> None:
    """Ingest and validate as `training` does, and stop where it would: for the CI of a data set."""
    dataset = ingest(config.data, config.use_case, source_fingerprint)
    require_usable(validated(dataset, config.validation))


def validated(dataset: Any, validation: ValidationPolicy) -> Any:
    """The report on a data set, an output of a step; of ``validation.shards`` steps and one that joins them.

    Call it where a pipeline is put together.
    """
    policy, shards = validation.without_shards(), validation.shards
    if shards == 1:
        return validate_data(dataset, policy)
    parts = [validate_shard(dataset, policy, n, shards, id=shard_id("validate", n, shards)) for n in range(shards)]
    return join_validation(dataset, parts, policy)


def shard_id(name: str, shard: int, shards: int) -> str:
    """Of a step: the local orchestrator goes by name, so that shards are done in their order."""
    return f"{name}_{shard + 1:0{len(str(shards))}}_of_{shards}"
