"""Check that a run releases through the model deployer that its stack had at the start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from zenml.client import Client

from visionops.errors import StackError

__all__ = ["deployer_settings", "require_same_deployer"]

_KEY = "model_deployer"


def deployer_settings() -> dict[str, str]:
    """Return the active stack's current model deployer, as the `extra` of a pipeline.

    Returns:
        Its name and the SHA-256 of its id and configuration; empty if the stack has none.
    """
    found = Client().active_stack.model_deployer
    if found is None:
        return {}
    # The stored form has the names of secrets, not their values.
    stored = Client().get_stack_component(found.type, found.id).configuration
    text = json.dumps([str(found.id), stored], sort_keys=True, default=str)
    return {_KEY: f"{found.name} {hashlib.sha256(text.encode()).hexdigest()}"}


def require_same_deployer(extra: Mapping[str, Any]) -> None:
    """Check that the active stack still has the model deployer of the run's start.

    Args:
        extra: The run's `extra`; the check passes if it names no deployer.

    Raises:
        StackError: The deployer or its settings have changed.
    """
    before, now = extra.get(_KEY, ""), deployer_settings().get(_KEY, "")
    if before and before != now:
        raise StackError(
            f"model deployer {before.partition(' ')[0]!r}: changed after this run started, so nothing is released; "
            "apply the intended stack (visionops stack apply), then run the deployment pipeline"
        )
