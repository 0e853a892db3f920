"""Define the interface that starts, watches and stops runs: as local processes, or as Jobs of a cluster."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Protocol

from visionops.runs.states import Run

__all__ = ["Launcher", "RunObservation", "Stage"]


class Stage(enum.StrEnum):
    """Stage of a run, as its process or Job shows it."""

    WAITING = "waiting"
    """Not started; it may be started again."""
    ALIVE = "alive"
    ENDED = "ended"
    GONE = "gone"
    """Started and gone, without an exit code."""
    REFUSED = "refused"
    """Cannot be started."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunObservation:
    """Observed state of a run."""

    stage: Stage
    exit_code: int | None = None
    reason: str = ""
    """Why the run cannot be started, or what may have ended it."""


class Launcher(Protocol):
    """Start, watch and stop runs. All state is outside of this process, so that another one can take over."""

    place: str
    """Where the runs are; another launcher with the same place can take them over."""

    def start(self, run: Run, command: list[str]) -> None:
        """Start a run; a second call does not start it again.

        Raises:
            StackError: The run cannot be started.
        """

    def observe(self, run: Run) -> RunObservation:
        """Return the current state of a run."""

    def stop(self, run: Run, *, hard: bool) -> None:
        """Interrupt a run, or kill it if ``hard``."""

    def log_tail(self, run: Run, size: int) -> str:
        """Return the last ``size`` bytes of a run's output; "" if there is none."""

    def summary(self, run: Run) -> Mapping[str, Any] | None:
        """Return the summary that a run has written; None if there is none."""
