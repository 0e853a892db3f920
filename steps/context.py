"""What the steps take from the active stack: nothing else in `steps/` knows that ZenML has one."""

from __future__ import annotations

from typing import Any

from zenml.client import Client

from stacks.tracking import active_tracking_uri
from visionops.endpoint import EndpointDeployer
from visionops.errors import StackError
from visionops.registry import ModelRegistry

__all__ = ["active_deployer", "active_registry"]


def active_registry() -> ModelRegistry:
    """The registry of the active stack: MLflow's, beside its tracker."""
    return ModelRegistry(active_tracking_uri())


def active_deployer() -> EndpointDeployer:
    """The model deployer of the active stack.

    Raises:
        StackError: The stack has none, or one that cannot take a bundle.
    """
    stack = Client().active_stack
    deployer: Any = stack.model_deployer
    if deployer is None or not hasattr(deployer, "deploy_bundle"):
        raise StackError(f"stack {stack.name!r}: has no VisionOps model deployer; run python -m stacks.apply local")
    return deployer
