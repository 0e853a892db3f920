"""Port of the queue of runs. `visionops.review_store.runs` implements it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from visionops.runs.states import Run, RunRequest

__all__ = ["RunStore"]


class RunStore(Protocol):
    """Store of runs. Every method is one transaction, and raises `Unavailable` where the database cannot be reached."""

    def add(
        self, run_request: RunRequest, actor: str, key: str, now: datetime, check: Callable[[datetime | None], None]
    ) -> Run:
        """Add a run to the queue. Repeated with the same key, the same run is returned.

        Args:
            check: Called with the time of the last training of the use case; raises an error to refuse another one.

        Raises:
            KeyReused: The key was used for another run.
            Conflict: A training of the use case is already waiting.
        """

    def run(self, run: str) -> Run:
        """Return a run.

        Raises:
            NotFound: No run has this id.
        """

    def runs(self, use_case: str | None, limit: int, after: str | None) -> list[Run]:
        """Return a page of runs, newest first.

        Raises:
            NotFound: The run ``after`` does not exist.
        """

    def last_training(self, use_case: str) -> datetime | None:
        """Return when the last training in the queue that was not cancelled or lost ended, or began where it runs."""

    def take(self, owner: str, place: str, now: datetime, until: datetime) -> Run | None:
        """Start the oldest queued run whose use case has none running; None where there is none."""

    def hold(self, owner: str, place: str, now: datetime, until: datetime) -> list[Run]:
        """Renew the lease of the owner's running runs, and take over those at ``place`` whose lease has ended."""

    def end(self, run: Run) -> bool:
        """Store how a running run ended. Return False where it has already ended."""

    def cancel(self, run: str, actor: str, now: datetime) -> Run:
        """Cancel a queued run, or mark a running one to be stopped.

        Raises:
            NotFound: The run does not exist.
            WrongState: It has ended.
        """

    def waiting(self) -> tuple[int, int]:
        """Return the number of queued runs, and how many of these wait although no run of their use case is running."""

    def close(self) -> None:
        """Close all connections."""

    def ping(self) -> None:
        """Run a small query to check the connection.

        Raises:
            Unavailable: The database cannot be reached.
        """
