"""Define ZenML model registry flavor ``visionops_mlflow``: MLflow's registry at its own address.

ZenML's flavor ``mlflow`` uses the address of the stack's tracker, which must then also be MLflow. Only ZenML is
imported at the top: every `zenml` command loads this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zenml.model_registries.base_model_registry import BaseModelRegistryConfig, BaseModelRegistryFlavor

from visionops.errors import StackError

if TYPE_CHECKING:
    from stacks.mlflow_registry import MlflowRegistry

__all__ = ["MlflowRegistryConfig", "MlflowRegistryFlavor", "active_registry_uri"]

_FLAVOR = "visionops_mlflow"


class MlflowRegistryConfig(BaseModelRegistryConfig):
    """Address of the registry."""

    uri: str
    """URI of MLflow: a database, or a server with a login from the environment (``MLFLOW_TRACKING_TOKEN``, or
    ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``)."""


class MlflowRegistryFlavor(BaseModelRegistryFlavor):
    """Registers `MlflowRegistry` with ZenML."""

    @property
    def name(self) -> str:
        """Return the name of the flavor."""
        return _FLAVOR

    @property
    def config_class(self) -> type[MlflowRegistryConfig]:
        """Return the class of the component's settings."""
        return MlflowRegistryConfig

    @property
    def implementation_class(self) -> type[MlflowRegistry]:
        """Return the class of the component."""
        from stacks.mlflow_registry import MlflowRegistry

        return MlflowRegistry


def active_registry_uri() -> str:
    """Return the active stack's registry URI: the registry's own address, or the one of its MLflow tracker.

    Raises:
        StackError: The stack has neither.
    """
    from zenml.client import Client

    stack = Client().active_stack
    if uri := getattr(getattr(stack.model_registry, "config", None), "uri", ""):
        return str(uri)
    if tracked := getattr(stack.experiment_tracker, "get_tracking_uri", None):
        return str(tracked())
    raise StackError(
        f"stack {stack.name!r}: missing model registry; add one of flavor {_FLAVOR}, or use the stack local"
    )
