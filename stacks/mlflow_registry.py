"""Provide ZenML's MLflow registry at its own configured address."""

from __future__ import annotations

from typing import cast

import mlflow
from zenml.integrations.mlflow.model_registries import MLFlowModelRegistry
from zenml.stack import StackValidator

from stacks.registry import MlflowRegistryConfig

__all__ = ["MlflowRegistry"]


class MlflowRegistry(MLFlowModelRegistry):
    """Registry for ``zenml model-registry``; gate, aliases and rollback are in `visionops.registry`."""

    @property
    def config(self) -> MlflowRegistryConfig:  # type: ignore[override]
        """Return the component's settings."""
        return cast("MlflowRegistryConfig", self._config)

    @property
    def validator(self) -> StackValidator | None:
        """Return None: it works with any tracker."""
        return None

    @property
    def mlflow_client(self) -> mlflow.MlflowClient:
        """Return the client of the registry."""
        return mlflow.MlflowClient(tracking_uri=self.config.uri, registry_uri=self.config.uri)
