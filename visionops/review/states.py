"""The life of an item as data and pure functions: pending, claimed, decided, exported.

    claim    pending -> claimed, or claimed -> claimed after the lease of its holder has ended; not by a reviewer who
             has given an opinion in this round
    renew    claimed -> claimed, by the holder while the lease runs
    release  claimed -> pending, by the holder, or an admin
    opinion  claimed -> pending, by the holder while the lease runs; the next opinion must come from another reviewer
    decide   claimed -> decided, by the holder while the lease runs
    export   decided -> exported in a data version, once; a rejected item stays decided
    reopen   decided or exported -> pending, by an admin: a new round begins, and the earlier decision stays
    prioritize  pending -> pending: the reasons of its place in the queue, or the model's answer, are replaced

`advance` is the only way from one status to the next. A store calls it inside a transaction that has the item locked,
and keeps one audit row for each call. The time is always passed in.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from visionops.review.checks import check_name, check_text, in_utc
from visionops.review.errors import Forbidden, HeldByAnother, Invalid, LeaseExpired, OpinionGiven, WrongState

__all__ = [
    "LONGEST_LEASE",
    "MOST_WAITING",
    "NEW",
    "TRANSITIONS",
    "Action",
    "Actor",
    "Change",
    "State",
    "Status",
    "Verdict",
    "advance",
    "claimable",
]

LONGEST_LEASE = timedelta(days=1)
MOST_WAITING = 2
"""Number of opinions that a round can have without a decision: the third one decides."""


class State(enum.StrEnum):
    """State of an item."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DECIDED = "decided"
    EXPORTED = "exported"


class Action(enum.StrEnum):
    """Action that changes an item."""

    CLAIM = "claim"
    RENEW = "renew"
    RELEASE = "release"
    OPINE = "opinion"
    DECIDE = "decide"
    EXPORT = "export"
    REOPEN = "reopen"
    PRIORITIZE = "prioritize"


class Verdict(enum.StrEnum):
    """A reviewer's verdict on an image."""

    CONFIRM = "confirm"
    """The model is right; its answer becomes the label."""
    CORRECT = "correct"
    """The label differs, for example because something is missing."""
    REJECT = "reject"
    """The image is not used as training data, for a given reason."""

    @property
    def has_label(self) -> bool:
        """Return whether the image becomes training data."""
        return self is not Verdict.REJECT


TRANSITIONS: Mapping[tuple[State, Action], State] = MappingProxyType(
    {
        (State.PENDING, Action.CLAIM): State.CLAIMED,
        (State.PENDING, Action.PRIORITIZE): State.PENDING,
        (State.CLAIMED, Action.CLAIM): State.CLAIMED,
        (State.CLAIMED, Action.RENEW): State.CLAIMED,
        (State.CLAIMED, Action.RELEASE): State.PENDING,
        (State.CLAIMED, Action.OPINE): State.PENDING,
        (State.CLAIMED, Action.DECIDE): State.DECIDED,
        (State.DECIDED, Action.EXPORT): State.EXPORTED,
        (State.DECIDED, Action.REOPEN): State.PENDING,
        (State.EXPORTED, Action.REOPEN): State.PENDING,
    }
)
"""All allowed transitions; any other is refused with `WrongState`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Actor:
    """Author of a change: a reviewer, or a program such as the intake of traffic.

    Raises:
        Invalid: The name is empty, longer than 200 characters, or not one line.
    """

    name: str
    is_admin: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "reviewer")


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """The part of an item that changes."""

    state: State = State.PENDING
    round: int = 1
    """Round of the item, increased when it is reopened. Each round has at most one decision."""
    revision: int = 0
    """Revision of the item, increased by every change."""
    holder: str | None = None
    """Reviewer who has claimed it, or decided this round."""
    lease_until: datetime | None = None
    """End of the lease while it is claimed; UTC."""
    verdict: Verdict | None = None
    """Verdict of this round."""
    version: int | None = None
    """The data version that has this round's label."""
    reviewers: tuple[str, ...] = ()
    """Reviewers who gave an opinion in this round without deciding it, oldest first; at most `MOST_WAITING`."""


NEW = Status()
"""Status of a new item."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A requested change of an item, with its parameters."""

    action: Action
    actor: Actor
    until: datetime | None = None
    """End of the lease, for a claim or renewal; aware."""
    verdict: Verdict | None = None
    """Verdict of a decision."""
    version: int | None = None
    """Data version of an export."""
    reason: str = ""
    """Reason of a reopening or a rejection, for the audit; empty for an opinion, which stays hidden."""

    def details(self) -> dict[str, Any]:
        """Return the details for an audit row, as plain values."""
        found: dict[str, Any] = {"version": self.version, "reason": self.reason or None}
        found["until"] = self.until and in_utc(self.until).isoformat()
        found["verdict"] = self.verdict and self.verdict.value
        return {name: value for name, value in found.items() if value is not None}


def claimable(status: Status, now: datetime) -> bool:
    """Return whether anybody may claim the item: it is pending, or the lease of its holder has ended."""
    return status.state is State.PENDING or (
        status.state is State.CLAIMED and status.lease_until is not None and status.lease_until <= now
    )


def advance(status: Status, change: Change, now: datetime, item: str) -> Status:
    """Return the status after a change.

    Args:
        now: Aware.
        item: Its id, for messages.

    Raises:
        WrongState: The state does not allow the action.
        HeldByAnother: Another reviewer has the item.
        LeaseExpired: The lease has ended.
        OpinionGiven: The reviewer who claims has given an opinion in this round.
        Forbidden: Only an admin may do it.
        Invalid: A lease that has already ended or is longer than a day, or a reopening without a reason.
    """
    now = in_utc(now)
    target = TRANSITIONS.get((status.state, change.action))
    if target is None:
        raise WrongState(_refusal(status, change, item))
    if change.action in _GUARDS:
        _GUARDS[change.action](status, change, now, item)
    revision = status.revision + 1
    changed: dict[str, Any] = {}
    match change.action:
        case Action.CLAIM | Action.RENEW:
            changed = {"holder": change.actor.name, "lease_until": in_utc(change.until) if change.until else None}
        case Action.RELEASE:
            changed = {"holder": None, "lease_until": None}
        case Action.OPINE:
            changed = {"holder": None, "lease_until": None, "reviewers": (*status.reviewers, change.actor.name)}
        case Action.DECIDE:
            changed = {"lease_until": None, "verdict": change.verdict}
        case Action.EXPORT:
            changed = {"version": change.version}
        case Action.REOPEN:
            return Status(round=status.round + 1, revision=revision)
        case Action.PRIORITIZE:
            pass
    return dataclasses.replace(status, state=target, revision=revision, **changed)


def _refusal(status: Status, change: Change, item: str) -> str:
    place = f"item {item}: cannot be {_DONE[change.action]}, "
    match status.state:
        case State.PENDING:
            return place + "nobody has claimed it; claim it first"
        case State.CLAIMED:
            return f"{place}{status.holder} has claimed it and not decided it yet"
        case State.DECIDED:
            return f"{place}{status.holder} has decided it; an admin can reopen it"
        case State.EXPORTED:
            return f"{place}it is in data version {status.version}; an admin can reopen it"


_DONE = {
    Action.CLAIM: "claimed",
    Action.RENEW: "renewed",
    Action.RELEASE: "released",
    Action.OPINE: "decided",
    Action.DECIDE: "decided",
    Action.EXPORT: "exported",
    Action.REOPEN: "reopened",
    Action.PRIORITIZE: "prioritized",
}


def _guard_claim(status: Status, change: Change, now: datetime, item: str) -> None:
    _check_lease(change, now)
    if change.actor.name in status.reviewers:
        raise OpinionGiven(f"item {item}: {change.actor.name} already gave an opinion on it; claim another item")
    if status.state is State.CLAIMED and status.holder != change.actor.name and not claimable(status, now):
        raise HeldByAnother(f"item {item}: {status.holder} has claimed it until {_moment(status)}; take another")


def _guard_renew(status: Status, change: Change, now: datetime, item: str) -> None:
    _check_lease(change, now)
    _guard_holder(status, change, now, item)


def _guard_holder(status: Status, change: Change, now: datetime, item: str) -> None:
    if status.holder != change.actor.name:
        raise HeldByAnother(f"item {item}: {status.holder} has claimed it until {_moment(status)}; take another")
    if claimable(status, now):
        raise LeaseExpired(f"item {item}: the lease of {status.holder} ended at {_moment(status)}; claim it again")


def _guard_opine(status: Status, change: Change, now: datetime, item: str) -> None:
    if len(status.reviewers) >= MOST_WAITING:
        raise ValueError("the third opinion is a decision")
    _guard_holder(status, change, now, item)


def _guard_decide(status: Status, change: Change, now: datetime, item: str) -> None:
    if change.verdict is None:
        raise ValueError("a decision has a verdict")
    _guard_holder(status, change, now, item)


def _guard_release(status: Status, change: Change, now: datetime, item: str) -> None:  # noqa: ARG001
    if status.holder != change.actor.name and not change.actor.is_admin:
        raise Forbidden(f"item {item}: {status.holder} has claimed it; only they or an admin can release it")


def _guard_export(status: Status, change: Change, now: datetime, item: str) -> None:  # noqa: ARG001
    if change.version is None:
        raise ValueError("an export has a version")
    if status.verdict is None or not status.verdict.has_label:
        raise WrongState(f"item {item}: cannot be exported, {status.holder} has rejected it")


def _guard_reopen(status: Status, change: Change, now: datetime, item: str) -> None:  # noqa: ARG001
    if not change.actor.is_admin:
        raise Forbidden(f"item {item}: only an admin can reopen it")
    if not change.reason.strip():
        raise Invalid("reason: is empty; say why the item is reopened")
    check_text(change.reason, "reason")


def _check_lease(change: Change, now: datetime) -> None:
    if change.until is None or not now < in_utc(change.until) <= now + LONGEST_LEASE:
        raise Invalid(f"lease: must end within {LONGEST_LEASE.total_seconds():.0f} s from now")


def _moment(status: Status) -> str:
    return f"{status.lease_until:%Y-%m-%d %H:%M:%S} UTC"


_GUARDS = {
    Action.CLAIM: _guard_claim,
    Action.RENEW: _guard_renew,
    Action.RELEASE: _guard_release,
    Action.OPINE: _guard_opine,
    Action.DECIDE: _guard_decide,
    Action.EXPORT: _guard_export,
    Action.REOPEN: _guard_reopen,
}
