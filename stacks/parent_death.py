"""End a process together with its parent, however the parent ends."""

from __future__ import annotations

import ctypes
import signal
import sys

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG = 1


def die_with_parent(*, dies: bool = True) -> None:
    """Have the kernel kill this process when its parent dies; children are not affected. Works on Linux only.

    Args:
        dies: False undoes it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL) if dies else 0)
