"""What runs a run: a process of this machine, or a Job of a cluster."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Protocol

from visionops.runs.states import Run

__all__ = ["Launcher", "RunObservation", "Stage"]


class Stage(enum.StrEnum):
    """How far a run has come, as its process shows."""

    WAITING = "waiting"
    """Not begun: it may be started, again too."""
    ALIVE = "alive"
    ENDED = "ended"
    GONE = "gone"
    """It began, it is not there any more, and nothing says how it ended."""
    REFUSED = "refused"
    """It cannot be begun."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunObservation:
    """A look at a run."""

    stage: Stage
    exit_code: int | None = None
    reason: str = ""
    """Why it cannot be begun, or what may have ended it."""


class Launcher(Protocol):
    """Starts runs, looks at them and stops them. All that it knows is kept outside of this process."""

    place: str
    """Where it runs them; another launcher of the same place can take its runs over."""

    def start(self, run: Run, command: list[str]) -> None:
        """Start a run; called again, it is started once.

        Raises:
            StackError: It cannot be started.
        """

    def look(self, run: Run) -> RunObservation:
        """Return how far a run has come."""

    def stop(self, run: Run, *, hard: bool) -> None:
        """Interrupt a run; with ``hard`` kill it."""

    def log_tail(self, run: Run, size: int) -> str:
        """Return the last ``size`` bytes of what a run has printed; "" where there is nothing."""

    def summary(self, run: Run) -> Mapping[str, Any] | None:
        """Return the summary that a run has written; None where there is none."""
