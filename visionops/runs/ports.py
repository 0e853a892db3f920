"""What the queue of runs needs of a database. `visionops.review_store.runs` has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from visionops.runs.states import Run, Wish

__all__ = ["RunStore"]


class RunStore(Protocol):
    """Keeps runs. Every method is one transaction, and raises `Unavailable` where the database cannot be reached."""

    def add(self, wish: Wish, actor: str, key: str, now: datetime, check: Callable[[datetime | None], None]) -> Run:
        """Put a run into the queue; sent again with the same key, the same run is returned.

        Args:
            check: Called with the time of the last training of the use case; raises what speaks against another.

        Raises:
            KeyReused: The key was used for another run.
            Conflict: A training of the use case waits already.
        """

    def run(self, run: str) -> Run:
        """Return a run.

        Raises:
            NotFound: There is none of this id.
        """

    def runs(self, use_case: str | None, limit: int, after: str | None) -> list[Run]:
        """Return a page of runs, newest first.

        Raises:
            NotFound: There is no run ``after``.
        """

    def last_training(self, use_case: str) -> datetime | None:
        """Return when the last training in the queue that was not cancelled or lost ended, or began where it runs."""

    def take(self, owner: str, place: str, now: datetime, until: datetime) -> Run | None:
        """Make the oldest queued run whose use case has none running a running one; None where there is none."""

    def hold(self, owner: str, place: str, now: datetime, until: datetime) -> list[Run]:
        """Renew the lease of the owner's running runs, and take over those at ``place`` whose lease has ended."""

    def end(self, run: Run) -> bool:
        """Keep how a running run ended. False where it has ended already."""

    def cancel(self, run: str, actor: str, now: datetime) -> Run:
        """Cancel a queued run, or note that a running one is to be stopped.

        Raises:
            NotFound: There is no such run.
            WrongState: It has ended.
        """

    def waiting(self) -> tuple[int, int]:
        """Return how many runs are queued, and how many of these wait although no run of their use case runs."""

    def close(self) -> None:
        """Close its connections."""

    def ping(self) -> None:
        """Read something small.

        Raises:
            Unavailable: The database cannot be reached.
        """
