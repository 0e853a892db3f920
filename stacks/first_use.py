"""The first use of ZenML's and MLflow's databases, which both make when a program first opens them."""

from __future__ import annotations

from contextlib import AbstractContextManager

from stacks.lock_files import held_lock

__all__ = ["opened_in_turn"]

_NAME = ".first-use"
"""Begins with a dot, as no use case does: their locks lie in the same folder."""


def opened_in_turn() -> AbstractContextManager[None]:
    """Hold off the other programs of this machine while the block opens the databases: two that make one break it.

    Raises:
        VisionOpsError: VISIONOPS_HOME cannot be written.
    """
    return held_lock(_NAME, on_wait=lambda: None)
