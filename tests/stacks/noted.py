"""A pipeline that writes a file, in a separate module, because ZenML loads steps by the name of their module."""

from __future__ import annotations

from zenml import pipeline, step

from stacks.same_code import require_same_code

ran: list[str] = []


@step(enable_cache=False)
def note() -> None:
    """Write a file."""
    ran.append("note")


@pipeline(enable_cache=False, on_init=require_same_code)
def noted() -> None:
    """Run one step."""
    note()
