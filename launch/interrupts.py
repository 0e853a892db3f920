"""Handle Ctrl-C while a run is active on other machines: stop the run, or leave it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from visionops.errors import ConfigError

__all__ = ["INTERRUPT_VARIABLE", "confirm_on_interrupt"]

INTERRUPT_VARIABLE = "VISIONOPS_INTERRUPT"
"""Environment variable with `stop` or `leave`, the action on an interrupt without a question."""
_STOP, _LEAVE = "stop", "leave"


@contextmanager
def confirm_on_interrupt(run: str, stack: str, show: Callable[[str], None]) -> Iterator[None]:
    """Ask once at Ctrl-C, while the block starts or follows a run, whether to stop the run as well.

    Without a terminal the run continues, unless `VISIONOPS_INTERRUPT` is `stop`. The interrupt always propagates.

    Args:
        run: Name of the run.
        show: Function that receives one line.

    Raises:
        ConfigError: `VISIONOPS_INTERRUPT` has another value.
        StackError: The run cannot be stopped.
    """
    wanted = os.environ.get(INTERRUPT_VARIABLE, "")
    if wanted not in {"", _STOP, _LEAVE}:
        raise ConfigError(f"{INTERRUPT_VARIABLE}: expected {_STOP} or {_LEAVE}, got {wanted!r}")
    try:
        yield
    except KeyboardInterrupt:
        from stacks.stopping import stop_run
        from stacks.under_way import how_to_stop, is_there

        if not is_there(run):
            raise
        if wanted == _STOP or (not wanted and _wants_to_stop(run)):
            show(f"stopping run {run}")
            stop_run(run)
            show(f"run {run}: stopped")
        else:
            show(f"run {run} continues; the same command attaches to it; stop it with: {how_to_stop(run, stack)}")
        raise


def _wants_to_stop(run: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"\nstop run {run} in the cluster as well? [y/N] ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except KeyboardInterrupt:
        return False
