"""ZenML model registry flavor ``visionops_mlflow``: MLflow's registry at an address of its own.

ZenML's flavor ``mlflow`` takes the address of the stack's tracker, which must then be MLflow as well. Only ZenML is
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
    """Where models are registered."""

    uri: str
    """Of MLflow: a database, or a server, whose login is that of the environment (``MLFLOW_TRACKING_TOKEN``, or
    ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``)."""


class MlflowRegistryFlavor(BaseModelRegistryFlavor):
    """Registers `MlflowRegistry` with ZenML."""

    @property
    def name(self) -> str:
        """Of the flavor."""
        return _FLAVOR

    @property
    def config_class(self) -> type[MlflowRegistryConfig]:
        """The component's configuration."""
        return MlflowRegistryConfig

    @property
    def implementation_class(self) -> type[MlflowRegistry]:
        """The component."""
        from stacks.mlflow_registry import MlflowRegistry

        return MlflowRegistry


def active_registry_uri() -> str:
    """Return where the active stack registers models: its registry's own address, or that of its MLflow tracker.

    Raises:
        StackError: It has neither.
    """
    from zenml.client import Client

    stack = Client().active_stack
    if uri := getattr(getattr(stack.model_registry, "config", None), "uri", ""):
        return str(uri)
    if tracked := getattr(stack.experiment_tracker, "get_tracking_uri", None):
        return str(tracked())
    raise StackError(
        f"stack {stack.name!r}: has no model registry; add one of flavor {_FLAVOR}, or visionops stack apply local"
    )
