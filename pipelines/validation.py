"""Validation as every pipeline that learns has it: in one step, or in shards."""

from __future__ import annotations

from typing import Any

from steps.data import join_validation, validate_data, validate_shard
from visionops.config import Config

__all__ = ["shard_id", "validated"]


def validated(dataset: Any, config: Config) -> Any:
    """The report on a data set, an output of a step; of ``validation.shards`` steps and one that joins them.

    Call it where a pipeline is put together.
    """
    policy, shards = config.only("validation"), config.validation.shards
    if shards == 1:
        return validate_data(dataset, policy)
    parts = [validate_shard(dataset, policy, n, shards, id=shard_id("validate", n, shards)) for n in range(shards)]
    return join_validation(dataset, parts, policy)


def shard_id(name: str, shard: int, shards: int) -> str:
    """Of a step: the local orchestrator goes by name, so that shards are done in their order."""
    return f"{name}_{shard + 1:0{len(str(shards))}}_of_{shards}"
