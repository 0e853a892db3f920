"""The states of an item: pure functions, driven by several simulated reviewers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest

from tests.helpers.review import ANNA, BEA, CHEN, NOW, Reviewers, rules
from visionops.review.errors import Forbidden, HeldByAnother, Invalid, LeaseExpired, OpinionGiven, WrongState
from visionops.review.items import Opinion
from visionops.review.opinions import settle, wants_second
from visionops.review.states import (
    LONGEST_LEASE,
    NEW,
    TRANSITIONS,
    Action,
    Actor,
    Change,
    State,
    Status,
    Verdict,
    advance,
    claimable,
)

SOON = NOW + timedelta(minutes=10)
CLAIMED = Status(State.CLAIMED, revision=1, holder="anna", lease_until=SOON)
DECIDED = Status(State.DECIDED, revision=2, holder="anna", verdict=Verdict.CORRECT)
EXPORTED = Status(State.EXPORTED, revision=3, holder="anna", verdict=Verdict.CORRECT, version=7)
CHANGES = {
    Action.CLAIM: Change(Action.CLAIM, ANNA, until=SOON),
    Action.RENEW: Change(Action.RENEW, ANNA, until=SOON),
    Action.RELEASE: Change(Action.RELEASE, ANNA),
    Action.OPINE: Change(Action.OPINE, ANNA),
    Action.DECIDE: Change(Action.DECIDE, ANNA, verdict=Verdict.CORRECT),
    Action.EXPORT: Change(Action.EXPORT, ANNA, version=7),
    Action.REOPEN: Change(Action.REOPEN, CHEN, reason="wrong class"),
    Action.PRIORITIZE: Change(Action.PRIORITIZE, CHEN),
}


class Ledger:
    """The state machine without a store."""

    def __init__(self) -> None:
        self._statuses: dict[str, Status] = {}
        self._decisions: list[tuple[str, int, str, Verdict]] = []
        self._opinions: dict[str, list[Opinion]] = {}
        self._members: list[tuple[str, int, int]] = []
        self._audit: list[tuple[str, int]] = []

    def add(self, number: int, now: datetime) -> str:
        item = f"item-{number}"
        self._statuses[item] = NEW
        self._audit.append((item, 0))
        return item

    def wants_second(self, item: str) -> bool:
        return wants_second(item, 0.5, ())

    def change(self, item: str, change: Change, now: datetime) -> Status:
        before, decision = self._statuses[item], None
        if change.verdict:
            given = self._opinions.setdefault(item, [])
            label = {"verdict": change.verdict} if change.verdict.has_label else None
            number = len(before.reviewers) + 1
            opinion = Opinion(item, before.round, number, change.actor.name, now, change.verdict, label, change.reason)
            earlier = given[len(given) - len(before.reviewers) :]
            decision = settle(opinion, earlier, dict.__eq__, is_double=bool(earlier) or self.wants_second(item))
            change = change if decision else Change(Action.OPINE, change.actor)
        after = advance(before, change, now, item)
        if change.action in {Action.OPINE, Action.DECIDE} and (decision is None or before.reviewers):
            given.append(opinion)
        if decision:
            self._decisions.append((item, decision.round, decision.reviewer, decision.verdict))
        self._audit.append((item, after.revision))
        self._statuses[item] = after
        return after

    def claim_next(self, change: Change, now: datetime) -> tuple[str, Status] | None:
        for item, status in self._statuses.items():
            if claimable(status, now) and change.actor.name not in status.reviewers:
                return item, self.change(item, change, now)
        return None

    def export(self, actor: Actor, now: datetime) -> int | None:
        number = max((version for *_, version in self._members), default=0) + 1
        ready = [i for i, s in self._statuses.items() if s.state is State.DECIDED and s.verdict and s.verdict.has_label]
        for item in ready:
            after = self.change(item, Change(Action.EXPORT, actor, version=number), now)
            self._members.append((item, after.round, number))
        return number if ready else None

    def statuses(self) -> Mapping[str, Status]:
        return self._statuses

    def decisions(self, item: str) -> list[tuple[int, str, Verdict]]:
        return [decision[1:] for decision in self._decisions if decision[0] == item]

    def opinions(self, item: str) -> list[tuple[int, int, str, Verdict]]:
        return [(one.round, one.number, one.reviewer, one.verdict) for one in self._opinions.get(item, ())]

    def members(self) -> list[tuple[str, int, int]]:
        return self._members

    def revisions(self, item: str) -> list[int]:
        return [revision for name, revision in self._audit if name == item]


class PureReviewers(Reviewers):
    def make(self) -> Ledger:
        return Ledger()


TestPureReviewers = PureReviewers.TestCase
TestPureReviewers.settings = rules(100, 30)


def test_all_that_can_happen_is_in_the_table():
    befores = {State.PENDING: NEW, State.CLAIMED: CLAIMED, State.DECIDED: DECIDED, State.EXPORTED: EXPORTED}
    assert set(befores) == set(State)
    assert set(CHANGES) == set(Action)
    for state, before in befores.items():
        for action, change in CHANGES.items():
            if (state, action) in TRANSITIONS:
                after = advance(before, change, NOW, "i")
                assert (after.state, after.revision) == (TRANSITIONS[state, action], before.revision + 1)
            else:
                with pytest.raises(WrongState, match=r"^item i: cannot be \w+, "):
                    advance(before, change, NOW, "i")


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS.values()) == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State)


def test_of_two_reviewers_one_wins_and_the_other_gets_the_name():
    claimed = advance(NEW, Change(Action.CLAIM, ANNA, until=SOON), NOW, "i")
    with pytest.raises(HeldByAnother, match="anna has claimed it until 2026-11-29 12:10:00 UTC; take another"):
        advance(claimed, Change(Action.CLAIM, BEA, until=SOON), NOW, "i")
    with pytest.raises(HeldByAnother, match="anna has claimed it"):
        advance(claimed, Change(Action.DECIDE, BEA, verdict=Verdict.CONFIRM), NOW, "i")


def test_an_opinion_is_given_once_in_a_round():
    heard = advance(CLAIMED, CHANGES[Action.OPINE], NOW, "i")
    assert heard == Status(State.PENDING, revision=2, reviewers=("anna",))
    with pytest.raises(OpinionGiven, match="item i: anna already gave an opinion on it; claim another item"):
        advance(heard, CHANGES[Action.CLAIM], NOW, "i")
    claimed = advance(heard, Change(Action.CLAIM, BEA, until=SOON), NOW, "i")
    with pytest.raises(OpinionGiven):
        advance(claimed, Change(Action.CLAIM, ANNA, until=SOON + timedelta(hours=1)), SOON, "i")
    with pytest.raises(HeldByAnother):
        advance(claimed, CHANGES[Action.OPINE], NOW, "i")
    twice = advance(claimed, Change(Action.OPINE, BEA), NOW, "i")
    assert twice.reviewers == ("anna", "bea")
    third = advance(twice, Change(Action.CLAIM, CHEN, until=SOON), NOW, "i")
    with pytest.raises(ValueError, match="the third opinion is a decision"):
        advance(third, Change(Action.OPINE, CHEN), NOW, "i")
    decided = advance(third, Change(Action.DECIDE, CHEN, verdict=Verdict.CONFIRM), NOW, "i")
    assert (decided.holder, decided.reviewers) == ("chen", ("anna", "bea"))
    assert advance(decided, Change(Action.REOPEN, CHEN, reason="x"), NOW, "i").reviewers == ()


def test_an_opinion_leaves_no_trace_of_its_verdict_in_the_audit():
    assert CHANGES[Action.OPINE].details() == {}


def test_a_lease_ends_at_its_moment():
    decide = Change(Action.DECIDE, ANNA, verdict=Verdict.CONFIRM)
    last = SOON - timedelta(microseconds=1)
    assert advance(CLAIMED, decide, last, "i").state is State.DECIDED
    with pytest.raises(LeaseExpired, match="the lease of anna ended at 2026-11-29 12:10:00 UTC; claim it again"):
        advance(CLAIMED, decide, SOON, "i")
    with pytest.raises(HeldByAnother):
        advance(CLAIMED, Change(Action.CLAIM, BEA, until=SOON + timedelta(hours=1)), last, "i")
    assert advance(CLAIMED, Change(Action.CLAIM, BEA, until=SOON + timedelta(hours=1)), SOON, "i").holder == "bea"


def test_a_rejected_item_is_never_exported():
    rejected = Status(State.DECIDED, holder="anna", verdict=Verdict.REJECT)
    with pytest.raises(WrongState, match="anna has rejected it"):
        advance(rejected, CHANGES[Action.EXPORT], NOW, "i")


def test_reopening_begins_a_new_round():
    after = advance(EXPORTED, CHANGES[Action.REOPEN], NOW, "i")
    assert after == Status(State.PENDING, round=2, revision=4)


@pytest.mark.parametrize(
    ("before", "change", "error", "words"),
    [
        (DECIDED, Change(Action.REOPEN, ANNA, reason="x"), Forbidden, "only an admin can reopen it"),
        (DECIDED, Change(Action.REOPEN, CHEN, reason=" "), Invalid, "reason: is empty"),
        (CLAIMED, Change(Action.RELEASE, BEA), Forbidden, "only they or an admin can release it"),
        (NEW, Change(Action.CLAIM, ANNA, until=NOW), Invalid, "lease: must end within 86400 s"),
        (NEW, Change(Action.CLAIM, ANNA), Invalid, "lease: must end"),
        (NEW, Change(Action.CLAIM, ANNA, until=NOW + 2 * LONGEST_LEASE), Invalid, "lease: must end"),
        (EXPORTED, CHANGES[Action.DECIDE], WrongState, "it is in data version 7; an admin can reopen it"),
    ],
)
def test_a_refusal_says_why(before, change, error, words):
    with pytest.raises(error, match=words):
        advance(before, change, NOW, "i")


def test_a_time_without_a_zone_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="has no time zone"):
        advance(NEW, CHANGES[Action.CLAIM], datetime(2026, 1, 1), "i")  # noqa: DTZ001
