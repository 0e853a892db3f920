"""ZenML's MLflow registry, at the address that its own configuration says."""

from __future__ import annotations

from typing import cast

import mlflow
from zenml.integrations.mlflow.model_registries import MLFlowModelRegistry
from zenml.stack import StackValidator

from stacks.registry import MlflowRegistryConfig

__all__ = ["MlflowRegistry"]


class MlflowRegistry(MLFlowModelRegistry):
    """What ``zenml model-registry`` asks; gate, aliases and rollback are `visionops.registry`'s."""

    @property
    def config(self) -> MlflowRegistryConfig:  # type: ignore[override]
        """The component's configuration."""
        return cast("MlflowRegistryConfig", self._config)

    @property
    def validator(self) -> StackValidator | None:
        """None: it stands beside any tracker."""
        return None

    @property
    def mlflow_client(self) -> mlflow.MlflowClient:
        """The client of the registry."""
        return mlflow.MlflowClient(tracking_uri=self.config.uri, registry_uri=self.config.uri)
