"""Generated reviews, and the rules by which hypothesis simulates several reviewers."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from visionops.review.errors import Conflict, Forbidden, HeldByAnother, LeaseExpired, OpinionGiven, WrongState
from visionops.review.items import Origin, Predicted, UseCase
from visionops.review.service import Answer, Arrival
from visionops.review.states import Action, Actor, Change, State, Status, Verdict
from visionops.tasks.labelling import LabelScheme, Question

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ANNA, BEA, CHEN, DORA = Actor("anna"), Actor("bea"), Actor("chen", is_admin=True), Actor("dora")
STEEL = UseCase("steel", "detection", LabelScheme(class_names=("scratch", "dent")))
CASTING = UseCase(
    "casting", "classification", LabelScheme(questions=(Question(name="label", class_names=("ok", "defective")),))
)
BOX = {"boxes": [{"class_name": "dent", "box": [1.0, 2.0, 30.0, 40.0]}]}
FOUND = {"class_id": 0, "class_name": "scratch", "confidence": 0.9, "box": [0.0, 0.0, 10.5, 10.0]}
PREDICTED = Predicted("steel", "3", {"detections": [FOUND]})
UPLOAD = Arrival(Origin.UPLOAD, predicted=PREDICTED)


def png(number: int) -> bytes:
    """Return the bytes of an image of 64 x 48 pixels, different for each number below 2 ** 24."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (number & 255, number >> 8 & 255, number >> 16)).save(stream, "PNG")
    return stream.getvalue()


@dataclasses.dataclass
class Truth:
    """Expected state of an item, derived only from requests and answers."""

    holder: str | None = None
    until: datetime = NOW
    state: State = State.PENDING
    round: int = 1
    decided: dict[int, tuple[str, Verdict]] = dataclasses.field(default_factory=dict)
    exported: dict[int, int] = dataclasses.field(default_factory=dict)
    """Data version by round."""
    opinions: list[tuple[str, Verdict]] = dataclasses.field(default_factory=list)
    """Opinions of this round that decided nothing."""
    changes: int = 0

    def is_free(self, now: datetime) -> bool:
        """Return whether an item is claimable for anybody who has given no opinion on it."""
        return self.state is State.PENDING or (self.state is State.CLAIMED and self.until <= now)

    def was_given_by(self, actor: Actor) -> bool:
        return actor.name in [name for name, _ in self.opinions]


class System(Protocol):
    """System under test."""

    def add(self, number: int, now: datetime) -> str:
        """Add an image; return the id of the new item."""

    def wants_second(self, item: str) -> bool:
        """Return whether an item needs two opinions."""

    def change(self, item: str, change: Change, now: datetime) -> Status:
        """Change an item; return its status afterwards. A decision may become an opinion."""

    def claim_next(self, change: Change, now: datetime) -> tuple[str, Status] | None:
        """Claim an item; return it with its status."""

    def export(self, actor: Actor, now: datetime) -> int | None:
        """Export; return the number of the data version."""

    def statuses(self) -> Mapping[str, Status]:
        """Return the statuses of all items."""

    def decisions(self, item: str) -> list[tuple[int, str, Verdict]]:
        """Return round, reviewer and verdict of decisions."""

    def opinions(self, item: str) -> list[tuple[int, int, str, Verdict]]:
        """Return round, number, reviewer and verdict of opinions."""

    def members(self) -> list[tuple[str, int, int]]:
        """Return item, round and version of all exported decisions."""

    def revisions(self, item: str) -> list[int]:
        """Return the revisions of the audit rows."""


REVIEWERS = st.sampled_from([ANNA, BEA, CHEN, DORA])
VERDICTS = st.sampled_from(list(Verdict))
SECONDS = st.integers(1, 600)


class Reviewers(RuleBasedStateMachine):
    """Several reviewers at once. Subclasses create the system."""

    system: System

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.truth: dict[str, Truth] = {}
        self.versions = 0
        self.seen: Counter[str] = Counter()
        self.kept: dict[str, list[tuple[int, int, str, Verdict]]] = {}
        """Opinions by item."""

    def make(self) -> System:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.system = self.make()

    @precondition(lambda self: len(self.truth) < 4)
    @rule()
    def add(self) -> None:
        self.truth[self.system.add(len(self.truth), self.now)] = Truth()

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.truth)
    @rule(data=st.data(), actor=REVIEWERS, seconds=SECONDS)
    def claim(self, data: st.DataObject, actor: Actor, seconds: int) -> None:
        item, truth = self._any(data)
        until = self.now + timedelta(seconds=seconds)
        try:
            after = self.system.change(item, Change(Action.CLAIM, actor, until=until), self.now)
        except OpinionGiven:
            assert truth.state in {State.PENDING, State.CLAIMED}
            assert truth.was_given_by(actor)
        except HeldByAnother:
            assert truth.state is State.CLAIMED
            assert truth.holder != actor.name
            assert self.now < truth.until
        except WrongState:
            assert truth.state in {State.DECIDED, State.EXPORTED}
        else:
            assert truth.is_free(self.now) or truth.holder == actor.name
            assert not truth.was_given_by(actor)
            assert (after.holder, after.lease_until) == (actor.name, until)
            self._claimed(truth, actor, until)

    @rule(actor=REVIEWERS, seconds=SECONDS)
    def claim_next(self, actor: Actor, seconds: int) -> None:
        until = self.now + timedelta(seconds=seconds)
        found = self.system.claim_next(Change(Action.CLAIM, actor, until=until), self.now)
        free = [i for i, t in self.truth.items() if t.is_free(self.now) and not t.was_given_by(actor)]
        if found is None:
            assert not free
            return
        assert found[0] in free
        self._claimed(self.truth[found[0]], actor, until)

    @precondition(lambda self: self.truth)
    @rule(data=st.data(), actor=REVIEWERS, seconds=SECONDS)
    def renew(self, data: st.DataObject, actor: Actor, seconds: int) -> None:
        item, truth = self._any(data)
        until = self.now + timedelta(seconds=seconds)
        try:
            self.system.change(item, Change(Action.RENEW, actor, until=until), self.now)
        except Conflict as error:
            self._check_refusal(error, truth, actor)
        else:
            assert self._holds(truth, actor)
            self._claimed(truth, actor, until)

    @precondition(lambda self: self.truth)
    @rule(data=st.data(), actor=REVIEWERS)
    def release(self, data: st.DataObject, actor: Actor) -> None:
        item, truth = self._any(data)
        try:
            self.system.change(item, Change(Action.RELEASE, actor), self.now)
        except WrongState:
            assert truth.state is not State.CLAIMED
        except Forbidden:
            assert truth.holder != actor.name
            assert not actor.is_admin
        else:
            assert truth.state is State.CLAIMED
            assert truth.holder == actor.name or actor.is_admin
            truth.state, truth.holder = State.PENDING, None
            truth.changes += 1

    @precondition(lambda self: self.truth)
    @rule(data=st.data(), actor=REVIEWERS, verdict=VERDICTS)
    def decide(self, data: st.DataObject, actor: Actor, verdict: Verdict) -> None:
        item, truth = self._any(data)
        reason = "blurred" if verdict is Verdict.REJECT else ""
        try:
            after = self.system.change(item, Change(Action.DECIDE, actor, verdict=verdict, reason=reason), self.now)
        except Conflict as error:
            self._check_refusal(error, truth, actor)
        else:
            assert self._holds(truth, actor)
            truth.changes += 1
            mine, before = (actor.name, verdict), truth.opinions
            assert not truth.was_given_by(actor)
            is_double = bool(before) or self.system.wants_second(item)
            if is_double:
                self.kept.setdefault(item, []).append((truth.round, len(before) + 1, *mine))
            if (is_double and not before) or (len(before) == 1 and before[0][1] is not verdict):
                assert (after.state, after.holder, after.verdict) == (State.PENDING, None, None)
                truth.state, truth.holder, truth.opinions = State.PENDING, None, [*before, mine]
            else:
                assert after.state is State.DECIDED
                truth.state = State.DECIDED
                truth.decided[truth.round] = before[0] if len(before) == 1 else mine

    @rule(actor=REVIEWERS)
    def export(self, actor: Actor) -> None:
        number = self.system.export(actor, self.now)
        ready = [t for t in self.truth.values() if t.state is State.DECIDED and t.decided[t.round][1].has_label]
        assert (number is None) == (not ready)
        if number is None:
            return
        self.versions += 1
        assert number == self.versions
        for truth in ready:
            truth.state = State.EXPORTED
            truth.exported[truth.round] = number
            truth.changes += 1

    @precondition(lambda self: self.truth)
    @rule(data=st.data(), actor=REVIEWERS)
    def reopen(self, data: st.DataObject, actor: Actor) -> None:
        item, truth = self._any(data)
        try:
            self.system.change(item, Change(Action.REOPEN, actor, reason="wrong class"), self.now)
        except Forbidden:
            assert not actor.is_admin
        except WrongState:
            assert truth.state in {State.PENDING, State.CLAIMED}
        else:
            assert actor.is_admin
            assert truth.state in {State.DECIDED, State.EXPORTED}
            truth.state, truth.holder, truth.round = State.PENDING, None, truth.round + 1
            truth.opinions = []
            truth.changes += 1

    @invariant()
    def nothing_is_lost_and_nothing_is_there_twice(self) -> None:
        if not self.truth:
            return
        statuses = self.system.statuses()
        assert statuses.keys() == self.truth.keys()
        for item, truth in self.truth.items():
            status = statuses[item]
            assert (status.state, status.round, status.revision) == (truth.state, truth.round, truth.changes)
            assert status.reviewers == tuple(name for name, _ in truth.opinions)
            assert self.system.opinions(item) == self.kept.get(item, [])
            assert self.system.decisions(item) == [(n, *decided) for n, decided in sorted(truth.decided.items())]
            assert self.system.revisions(item) == list(range(truth.changes + 1))
        members = self.system.members()
        assert len({(item, round_) for item, round_, _ in members}) == len(members)
        wanted = [(item, n, v) for item, truth in self.truth.items() for n, v in truth.exported.items()]
        assert sorted(members) == sorted(wanted)

    def _any(self, data: st.DataObject) -> tuple[str, Truth]:
        item = data.draw(st.sampled_from(list(self.truth)))
        return item, self.truth[item]

    def _holds(self, truth: Truth, actor: Actor) -> bool:
        return truth.state is State.CLAIMED and truth.holder == actor.name and self.now < truth.until

    def _claimed(self, truth: Truth, actor: Actor, until: datetime) -> None:
        truth.state, truth.holder, truth.until = State.CLAIMED, actor.name, until
        truth.changes += 1

    def _check_refusal(self, error: Conflict, truth: Truth, actor: Actor) -> None:
        """Assert that a refusal of a reviewer without a lease has the expected reason."""
        assert not self._holds(truth, actor)
        if truth.state is not State.CLAIMED:
            assert isinstance(error, WrongState)
        elif truth.holder != actor.name:
            assert isinstance(error, HeldByAnother)
        else:
            assert isinstance(error, LeaseExpired)


def answer_of(verdict: Verdict) -> Answer:
    """Return an answer that fits `PREDICTED`."""
    if verdict is Verdict.REJECT:
        return Answer(verdict, reason="blurred")
    return Answer(verdict, label=BOX if verdict is Verdict.CORRECT else None)


def rules(examples: int, steps: int) -> Any:
    """Return the settings of a state machine."""
    from hypothesis import settings

    return settings(max_examples=examples, stateful_step_count=steps)
