"""Drift drills that a console has started: processes of their own, beside the queue of runs.

The queue has no drills, which change no model and need no audit; what one sent is in ZenML, as that of any drill. A
console that ends lets them go on, and forgets them.
"""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from visionops.errors import one_line
from visionops.monitoring.simulate import Kind
from visionops.review.errors import Conflict, Unavailable

__all__ = ["Drill", "DrillOrder", "Drills"]

_log = logging.getLogger("visionops.console")
_TAIL = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class DrillOrder:
    """What is to be sent."""

    use_case: str
    config: Path
    kind: Kind
    severity: float
    images: int
    by: str
    """Who wants it."""

    def command(self, stack: str | None) -> list[str]:
        """Return the words of its command line."""
        words = ["drill", "--config", str(self.config), f"--kind={self.kind.value}", f"--severity={self.severity:g}"]
        return [*words, f"--images={self.images}", *(["--stack", stack] if stack else [])]


@dataclasses.dataclass(frozen=True, slots=True)
class Drill:
    """A drill that runs or has ended."""

    order: DrillOrder
    started: datetime
    state: str
    """``running``, ``succeeded`` or ``failed``."""
    said: str
    """The last line that it printed."""


class Drills:
    """Starts drills, one of a use case at a time. Safe to call from several threads.

    Args:
        folder: Of their logs.
        root: Working folder, where ``python -m`` finds the code.
        stack: Stack of the endpoints; the active one when None.
        clock: The time, aware.
    """

    def __init__(self, folder: Path, root: Path, stack: str | None, clock: Callable[[], datetime]) -> None:
        self._folder, self._root, self._stack, self._clock = folder, root, stack, clock
        self._lock = threading.Lock()
        self._started: list[tuple[DrillOrder, datetime, subprocess.Popen[bytes], Path]] = []

    def start(self, order: DrillOrder) -> None:
        """Start a drill.

        Raises:
            Conflict: One of the use case runs.
            Unavailable: Its process cannot be started.
        """
        with self._lock:
            if any(known.use_case == order.use_case and child.poll() is None for known, _, child, _ in self._started):
                raise Conflict(f"{order.use_case}: a drill runs; wait for its end")
            log = self._folder / f"{uuid.uuid4().hex}.log"
            command = [sys.executable, "-m", "launch.cli", *order.command(self._stack)]
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                with log.open("wb") as out:
                    child = subprocess.Popen(  # noqa: S603 - kind and numbers are checked, the file is the folder's
                        command,
                        cwd=self._root,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
            except OSError as error:
                raise Unavailable(f"{order.use_case}: a drill cannot be started ({error.strerror})") from error
            self._started.append((order, self._clock(), child, log))
        fields = {"use_case": order.use_case, "by": order.by, "kind": order.kind.value, "severity": order.severity}
        _log.info("drill_started", extra={"fields": fields})

    def of(self, use_case: str) -> list[Drill]:
        """Return the drills of a use case that this console has started, the latest first."""
        with self._lock:
            ours = [one for one in self._started if one[0].use_case == use_case]
        return [Drill(order, at, _state(child.poll()), _last_line(log)) for order, at, child, log in reversed(ours)]


def _state(code: int | None) -> str:
    if code is None:
        return "running"
    return "succeeded" if code == 0 else "failed"


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return one_line(lines[-1].strip()) if lines else ""
