"""Let servers go first while this process trains.

Linux gives each session (a terminal, a service) the same share of the CPUs, however many threads it has: beside two
trainings, a server gets a third. `background_priority` lowers the share of this session while a block runs. Alone, a
session gets all of the CPUs whatever its priority is.

Only a session's priority can be raised again without special rights; a thread's or a process's cannot, and a server
that this process starts later would inherit it. Where Linux groups processes otherwise (containers, systemd services),
the limits and weights of those groups decide, and this does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["background_priority"]

_SESSION = Path("/proc/self/autogroup")
_PAUSE_SECONDS = 0.2
_NICE = 3
"""About half the default share: beside two trainings a server then keeps half of the CPUs."""


@contextlib.contextmanager
def background_priority(session: Path = _SESSION) -> Iterator[None]:
    """Lower the CPU priority of this process's session until the block ends; it is left alone where it is lower.

    Does nothing where the system has no such priorities.

    Args:
        session: The file of Linux that holds the session's priority, see sched(7).
    """
    before = _nice(session)
    lowered = before is not None and 0 <= before < _NICE and _set(session, _NICE)
    try:
        yield
    finally:
        # Somebody who has changed it meanwhile keeps what they set.
        if lowered and _nice(session) == _NICE:
            _set(session, before or 0)


def _nice(session: Path) -> int | None:
    try:
        found = re.search(r"nice (-?\d+)", session.read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def _set(session: Path, nice: int) -> bool:
    try:
        session.write_text(f"{nice}\n")
    except OSError as error:
        if error.errno != errno.EAGAIN:
            return False
        # Linux lets users without special rights change a priority ten times a second, all of them together.
        time.sleep(_PAUSE_SECONDS)
        try:
            session.write_text(f"{nice}\n")
        except OSError:
            return False
    return True
