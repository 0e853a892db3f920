"""Define the request counters that the middleware calls; each server has its own implementation."""

from __future__ import annotations

from typing import Protocol

__all__ = ["RequestCounts"]


class RequestCounts(Protocol):
    """Counts requests of one application."""

    def begin(self) -> None:
        """Count a request that starts."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""

    def upload(self, size: int) -> None:
        """Count a body of ``size`` bytes."""

    def rejected(self, reason: str) -> None:
        """Count a request that was refused."""
