"""Pipelines that work and fail, in a separate module, because ZenML loads steps by the name of their module."""

from __future__ import annotations

from zenml import pipeline, step

from visionops.errors import DataError


@step(enable_cache=False)
def fail(error: str) -> None:
    """Raise one of our errors, or another."""
    if error == "ours":
        raise DataError("labels.json: line 3: no class")
    raise RuntimeError("two\nlines")


@step(enable_cache=False)
def work() -> None:
    """Do nothing."""


@pipeline(enable_cache=False)
def works() -> None:
    """Run one step that works."""
    work()


@pipeline(enable_cache=False)
def fails(error: str) -> None:
    """Run one step that fails."""
    fail(error)
