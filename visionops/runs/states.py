"""Run of a use case and its states: queued, running, and ended.

    queued   -> running     by the service that starts it
    queued   -> cancelled   by an admin
    running  -> succeeded | failed | cancelled, by how its process ended
    running  -> lost        its process is gone and its result is unknown

`advance` is the only way from one state to the next.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from visionops.review.checks import check_name, check_text, digest_of, in_utc
from visionops.review.errors import Conflict, Invalid, WrongState

__all__ = ["ENDED", "CoolingDown", "Kind", "Run", "RunRequest", "RunState", "advance", "check_cooldown", "run_id"]

_MOST_REASON = 1000


class RunState(enum.StrEnum):
    """State of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


ENDED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.LOST})
"""Final states, which have no transitions."""

_NEXT: Mapping[RunState, frozenset[RunState]] = MappingProxyType(
    {
        RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
        RunState.RUNNING: ENDED,
        **dict.fromkeys(ENDED, frozenset()),
    }
)


class Kind(enum.StrEnum):
    """Kind of a run."""

    RETRAIN = "retrain"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class CoolingDown(Conflict):
    """The last training of the use case is too recent."""

    code = "cooling_down"

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds
        """Seconds until the next training may begin."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunRequest:
    """Request for a run.

    Raises:
        Invalid: A text is too long or has a control character, or a reason is missing.
    """

    kind: Kind
    use_case: str
    reason: str = ""
    version: str = ""
    """Registered version to promote; empty for other kinds."""
    override: bool = False
    """Train although the last training is recent, or promote although the gate refused the version."""

    def __post_init__(self) -> None:
        check_name(self.use_case, "use case")
        check_text(self.reason, "reason", _MOST_REASON)
        if self.version and not (self.version.isascii() and self.version.isdigit()):
            raise Invalid(f"version: {self.version!r} is not the number of a registered version")
        if not self.reason.strip() and (self.override or self.kind is not Kind.RETRAIN):
            what = "the cool-down is overridden" if self.kind is Kind.RETRAIN else f"you {self.kind}"
            raise Invalid(f"reason: is empty; say why {what}")


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A run in the queue."""

    id: str
    request: RunRequest
    actor: str
    """Id of the API key that requested it."""
    queued: datetime
    state: RunState = RunState.QUEUED
    started: datetime | None = None
    ended: datetime | None = None
    owner: str | None = None
    """Service that watches it."""
    lease_until: datetime | None = None
    """Time from which another service may take it over."""
    place: str | None = None
    """Place where it runs: a host name, or ``kubernetes:NAMESPACE``."""
    cancelled_by: str | None = None
    cancelled_at: datetime | None = None
    exit_code: int | None = None
    message: str = ""
    """One line on how it ended."""
    summary: Mapping[str, Any] | None = None
    """Content of the summary that `visionops train --summary` writes."""


def run_id(actor: str, key: str) -> str:
    """Return the id of the run that belongs to a client's key: 32 hex digits."""
    return digest_of("run", actor, check_name(key, "key"))[:32]


def advance(run: Run, state: RunState, now: datetime, **changes: Any) -> Run:
    """Return the run in its next state.

    Args:
        now: Aware.
        changes: Other fields that change with it.

    Raises:
        WrongState: The transition from its state to that one is not allowed.
    """
    if state not in _NEXT[run.state]:
        raise WrongState(f"run {run.id}: is {run.state}, so it cannot become {state}")
    now = in_utc(now)
    if state is RunState.RUNNING:
        return dataclasses.replace(run, state=state, started=now, **changes)
    return dataclasses.replace(run, state=state, ended=now, owner=None, lease_until=None, **changes)


def check_cooldown(run_request: RunRequest, last: datetime | None, cooldown_hours: float, now: datetime) -> None:
    """Check that the last training was long enough ago, unless the request overrides the cool-down.

    Args:
        last: When the last training of the use case ended, or began where it still runs; None: there was none.

    Raises:
        CoolingDown: The last training is too recent.
    """
    # Without a cool-down no training is too recent, even one that ended while this one waited for the database.
    if run_request.kind is not Kind.RETRAIN or run_request.override or last is None or not cooldown_hours:
        return
    left = (last + timedelta(hours=cooldown_hours) - now).total_seconds()
    if left > 0:
        raise CoolingDown(
            f"{run_request.use_case}: the last training was at {last:%Y-%m-%d %H:%M} UTC; the next may begin in "
            f"{left / 3600:.1f} h, or now with override and a reason",
            left,
        )
