"""A pipeline whose step fails, in a module of its own: ZenML loads steps by the name of their module."""

from __future__ import annotations

from zenml import pipeline, step

from visionops.errors import DataError


@step(enable_cache=False)
def fail(error: str) -> None:
    """Raise an error of ours, or another."""
    if error == "ours":
        raise DataError("labels.json: line 3: no class")
    raise RuntimeError("two\nlines")


@pipeline(enable_cache=False)
def fails(error: str) -> None:
    """Run one step that fails."""
    fail(error)
