"""Several simulated reviewers on each kind of database: no order of actions loses or duplicates anything."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.helpers.review import ANNA, STEEL, UPLOAD, Reviewers, answer_of, png, rules
from visionops.review.items import UseCase
from visionops.review.opinions import wants_second
from visionops.review.ports import ItemFilter
from visionops.review.service import Review
from visionops.review.states import Action, Actor, Change, Status, Verdict
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.store import SqlReviewStore

_CASES = itertools.count()


class Kept:
    """A review in a database; each run has its own use case. Every write is sent twice."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._case = f"game {next(_CASES)}"
        self._keys = itertools.count()
        review.put_use_case(UseCase(self._case, "detection", STEEL.scheme))
        review.set_second_share(self._case, 0.5)

    def add(self, number: int, now: datetime) -> str:
        key = self._key()
        first, again = (self._review.add(self._case, png(number), UPLOAD, ANNA, key=key, now=now) for _ in range(2))
        assert first == again
        return first.item.id

    def wants_second(self, item: str) -> bool:
        return wants_second(item, 0.5, ())

    def change(self, item: str, change: Change, now: datetime) -> Status:
        key = self._key()
        first = self._send(item, change, now, key)
        assert self._send(item, change, now, key) == first
        return first

    def _send(self, item: str, change: Change, now: datetime, key: str) -> Status:
        review, actor = self._review, change.actor
        match change.action:
            case Action.CLAIM:
                return review.claim(item, actor, key=key, now=now, lease=change.until - now).status
            case Action.RENEW:
                return review.renew(item, actor, key=key, now=now, lease=change.until - now).status
            case Action.RELEASE:
                return review.release(item, actor, key=key, now=now).status
            case Action.DECIDE:
                return review.decide(item, answer_of(change.verdict), actor, key=key, now=now).status
        return review.reopen(item, change.reason, actor, key=key, now=now).status

    def claim_next(self, change: Change, now: datetime) -> tuple[str, Status] | None:
        lease = change.until - now
        found = self._review.claim_next(self._case, change.actor, key=self._key(), now=now, lease=lease)
        return found and (found.id, found.status)

    def export(self, actor: Actor, now: datetime) -> int | None:
        key = self._key()
        first, again = (self._review.export(self._case, actor, key=key, now=now) for _ in range(2))
        assert first == again
        return first and first.number

    def statuses(self) -> Mapping[str, Status]:
        return {item.id: item.status for item in self._review.store.items(ItemFilter(self._case))}

    def decisions(self, item: str) -> list[tuple[int, str, Verdict]]:
        return [(one.round, one.reviewer, one.verdict) for one in self._review.store.decisions(item)]

    def opinions(self, item: str) -> list[tuple[int, int, str, Verdict]]:
        return [(one.round, one.number, one.reviewer, one.verdict) for one in self._review.store.opinions(item)]

    def members(self) -> list[tuple[str, int, int]]:
        store = self._review.store
        numbers = [version.number for version in store.versions(self._case)]
        return [(item.id, decision.round, n) for n in numbers for item, decision in store.version(self._case, n)]

    def revisions(self, item: str) -> list[int]:
        return [row.revision for row in self._review.store.history(item)]

    def _key(self) -> str:
        return f"{self._case} {next(self._keys)}"


def test_no_order_of_operations_loses_or_doubles_anything(place: str, tmp_path: Path):
    database = Database(place)
    review = Review(SqlReviewStore(database), open_images(str(tmp_path / "images")))

    class KeptReviewers(Reviewers):
        def make(self) -> Kept:
            return Kept(review)

    run_state_machine_as_test(KeptReviewers, settings=rules(15, 25))
    database.close()


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_an_answer(verdict: Verdict):
    assert answer_of(verdict).verdict is verdict
