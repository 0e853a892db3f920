"""A process that ends with the one that has started it, however that ends."""

from __future__ import annotations

import ctypes
import signal
import sys

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG = 1


def die_with_parent(*, dies: bool = True) -> None:
    """Have the kernel kill this process when its parent dies; children are not affected. Does nothing but on Linux.

    Args:
        dies: False takes it back.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL) if dies else 0)
