"""A run releases through the model deployer that its stack had when it began, not one that somebody has set since."""

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
    """Return which model deployer the active stack has now, as the `extra` of a pipeline.

    Returns:
        Empty where the stack has none, else its name, and the SHA-256 of its id and configuration.
    """
    found = Client().active_stack.model_deployer
    if found is None:
        return {}
    # As it is stored: with the names of secrets, not with their values.
    stored = Client().get_stack_component(found.type, found.id).configuration
    text = json.dumps([str(found.id), stored], sort_keys=True, default=str)
    return {_KEY: f"{found.name} {hashlib.sha256(text.encode()).hexdigest()}"}


def require_same_deployer(extra: Mapping[str, Any]) -> None:
    """See that the active stack still has the model deployer of the run's start.

    Args:
        extra: Of the run; one that says nothing, as of a run that was started otherwise, is taken as it is.

    Raises:
        StackError: It is another one, or has other settings.
    """
    before, now = extra.get(_KEY, ""), deployer_settings().get(_KEY, "")
    if before and before != now:
        raise StackError(
            f"model deployer {before.partition(' ')[0]!r}: was changed after this run began, so nothing is released; "
            "apply the stack that you mean (visionops stack apply), then run the deployment pipeline"
        )
