"""Start drift drills as separate processes, outside of the queue of runs.

Drills are not in the queue, because they change no model and need no audit. ZenML records what a drill sent. When the
console ends, its drills continue, and the next console does not list them.
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
    """Parameters of a drill."""

    use_case: str
    config: Path
    kind: Kind
    severity: float
    images: int
    by: str
    """Name of the person who starts it."""

    def command(self, stack: str | None) -> list[str]:
        """Return the command line as a list of arguments."""
        words = ["drill", "--config", str(self.config), f"--kind={self.kind.value}", f"--severity={self.severity:g}"]
        return [*words, f"--images={self.images}", *(["--stack", stack] if stack else [])]


@dataclasses.dataclass(frozen=True, slots=True)
class Drill:
    """A running or ended drill."""

    order: DrillOrder
    started: datetime
    state: str
    """``running``, ``succeeded`` or ``failed``."""
    said: str
    """Last line of its output."""


class Drills:
    """Start drills, one at a time per use case. Safe to call from several threads.

    Args:
        folder: Folder of the drills' logs.
        root: Working folder, where ``python -m`` finds the code.
        stack: Stack of the endpoints; the active one when None.
        clock: Returns the current time, time-zone aware.
    """

    def __init__(self, folder: Path, root: Path, stack: str | None, clock: Callable[[], datetime]) -> None:
        self._folder, self._root, self._stack, self._clock = folder, root, stack, clock
        self._lock = threading.Lock()
        self._started: list[tuple[DrillOrder, datetime, subprocess.Popen[bytes], Path]] = []

    def start(self, order: DrillOrder) -> None:
        """Start a drill.

        Raises:
            Conflict: A drill of the use case is running.
            Unavailable: Its process cannot be started.
        """
        with self._lock:
            if any(known.use_case == order.use_case and child.poll() is None for known, _, child, _ in self._started):
                raise Conflict(f"{order.use_case}: a drill is running; wait until it ends")
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
        """Return the drills of a use case that this console has started, newest first."""
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
