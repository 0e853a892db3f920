"""Serialize the first use of ZenML's and MLflow's databases, which both create on first access."""

from __future__ import annotations

from contextlib import AbstractContextManager

from stacks.lock_files import held_lock

__all__ = ["opened_in_turn"]

_NAME = ".first-use"
"""Name of the lock. It starts with a dot, so that it differs from the locks of use cases in the same folder."""


def opened_in_turn() -> AbstractContextManager[None]:
    """Lock out other programs on this machine while the block opens the databases: parallel creation breaks them.

    Raises:
        VisionOpsError: VISIONOPS_HOME cannot be written.
    """
    return held_lock(_NAME, on_wait=lambda: None)
