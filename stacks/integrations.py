"""What of ZenML's integrations a run needs: none of the libraries whose objects never are artifacts here."""

from __future__ import annotations

from zenml.integrations.integration import Integration
from zenml.integrations.registry import integration_registry

__all__ = ["leave_out_unused_integrations"]

_UNUSED = ("polars", "pytorch", "scipy", "sklearn")
"""Each would be imported for its materializers by every run, one that finds all its steps cached as well.
What travels between our steps has materializers of its own."""


def leave_out_unused_integrations() -> None:
    """Keep ZenML from importing them: a rollback took 15 seconds instead of 22."""
    for name in integration_registry.integrations.keys() & set(_UNUSED):
        integration_registry.register_integration(name, Integration)
