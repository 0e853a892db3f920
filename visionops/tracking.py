"""Interface of one run of an experiment tracker, for training, evaluation and search."""

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
    """Stopped early, because it was not worth continuing."""
    FAILED = "failed"


class RunTracker(Protocol):
    """An open run. Its adapters are in `stacks.trackers`, one for each ZenML tracker flavor."""

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters. A value is stored as a number, a boolean or text."""

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of one epoch (``step``), or of the whole run."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Log a file under ``folder`` ("" for the top). The tracker shows pictures and HTML pages if it can."""

    def artifacts(self, source: Path, folder: str) -> None:
        """Log all files below ``source`` under ``folder``, with their relative paths."""

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags for finding the run."""

    def link(self, name: str, url: str) -> None:
        """Set a URL that belongs to the run, such as its pipeline's."""

    def child(self, name: str, end: RunEnd = RunEnd.FINISHED) -> AbstractContextManager[RunTracker]:
        """Open a nested run, such as a trial of a search.

        Args:
            end: How it ends unless the block raises; then it ends as failed.
        """
