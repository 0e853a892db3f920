"""One run of an experiment tracker, whichever it is: what steps write of a training, an evaluation and a search."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

__all__ = ["RunEnd", "RunTracker"]


class RunEnd(enum.StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"
    """Before its end, as not worth going on with."""
    FAILED = "failed"


class RunTracker(Protocol):
    """A run that is open. Its adapters are in `stacks.trackers`, one for each flavor of ZenML's trackers."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Log what went in. A value is kept as a number, a switch or text."""

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log what came out: of one epoch, or of the whole run."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file under ``folder``; "" for the top. A picture or an HTML page is shown where the tracker can."""

    def artifacts(self, source: Path, folder: str) -> None:
        """Log all files below ``source``, with their places in it, under ``folder``."""

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set words by which a run is found."""

    def link(self, name: str, url: str) -> None:
        """Set an address that belongs to the run, as that of its pipeline."""

    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> AbstractContextManager[RunTracker]:
        """Open a run below this one, as of a trial below its search.

        Args:
            end: How it ends, unless the block raises: then it has failed.
        """
