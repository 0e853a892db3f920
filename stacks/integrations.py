"""Skip ZenML's integrations for libraries whose objects are never artifacts of ours."""

from __future__ import annotations

from zenml.integrations.integration import Integration
from zenml.integrations.registry import integration_registry

__all__ = ["leave_out_unused_integrations"]

_UNUSED = ("polars", "pytorch", "scipy", "sklearn")
"""Integrations that every run would import for their materializers, even if all steps are cached. Our steps exchange
only types with our own materializers."""


def leave_out_unused_integrations() -> None:
    """Keep ZenML from importing unused integrations: a rollback took 15 seconds instead of 22."""
    for name in integration_registry.integrations.keys() & set(_UNUSED):
        integration_registry.register_integration(name, Integration)
