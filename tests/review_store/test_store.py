"""Reviews on SQLite and PostgreSQL: stored and refused writes, and the answers to repeated ones."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.helpers.review import ANNA, BEA, BOX, CASTING, CHEN, NOW, PREDICTED, STEEL, UPLOAD, png
from visionops.review.errors import Conflict, HeldByAnother, Invalid, KeyReused, LeaseExpired, NotFound, WrongState
from visionops.review.items import DataVersion, Origin, Reason, UseCase
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import Actor, State, Verdict
from visionops.review_store.database import Database
from visionops.tasks.labelling import LabelScheme, Question

CONFIRM = Answer(Verdict.CONFIRM)
CORRECT = Answer(Verdict.CORRECT, label=BOX)
REJECT = Answer(Verdict.REJECT, reason="blurred")
LATER = NOW + timedelta(minutes=1)


def add(review: Review, number: int, priority: float = 0.0, **more) -> str:
    arrival = dataclasses.replace(UPLOAD, reasons=(Reason("uncertainty", priority),), **more)
    return review.add("steel", png(number), arrival, ANNA, key=f"add {number}", now=NOW).item.id


def decided(review: Review, number: int, answer: Answer = CONFIRM) -> str:
    item = add(review, number)
    review.claim(item, ANNA, key=f"claim {number}", now=NOW)
    review.decide(item, answer, ANNA, key=f"decide {number}", now=LATER)
    return item


def test_an_image_goes_its_way_and_every_step_is_kept(review: Review):
    arrival = Arrival(
        Origin.TRAFFIC, "req-1", "part.png", "bent?\nlook left", BOX, PREDICTED, (Reason("novelty", 0.5, "far off"),)
    )
    added = review.add("steel", png(1), arrival, Actor("traffic"), key="req-1", now=NOW)
    item = added.item
    assert added.is_new
    assert (item.image.width, item.image.height, item.image.format) == (64, 48, "PNG")
    assert (item.first.reference, item.first.name, item.first.comment) == ("req-1", "part.png", "bent?\nlook left")
    assert (item.first.proposed, item.first.predicted) == (BOX, PREDICTED)
    assert item.first.reasons == (Reason("novelty", 0.5, "far off"),)
    assert item.added == NOW
    assert review.images.read(item.image.sha256) == png(1)
    assert review.store.item(item.id) == item

    claimed = review.claim_next("steel", ANNA, key="c", now=NOW)
    assert claimed is not None
    assert (claimed.id, claimed.status.holder) == (item.id, "anna")
    assert claimed.status.lease_until == NOW + timedelta(minutes=15)
    assert review.decide(item.id, CONFIRM, ANNA, key="d", now=LATER).status.verdict is Verdict.CONFIRM
    version = review.export("steel", CHEN, key="e", now=LATER)
    assert version == DataVersion("steel", 1, LATER, "chen", 1)
    assert review.store.item(item.id).status.version == 1

    ((kept, decision),) = review.store.version("steel", 1)
    assert kept == review.store.item(item.id)
    assert (decision.reviewer, decision.at, decision.round) == ("anna", LATER, 1)
    assert decision.label == {"boxes": [{"class_name": "scratch", "box": [0.0, 0.0, 10.5, 10.0]}]}
    history = review.store.history(item.id)
    assert [(row.action, row.actor, row.before, row.after) for row in history] == [
        ("add", "traffic", "", "pending"),
        ("claim", "anna", "pending", "claimed"),
        ("decide", "anna", "claimed", "decided"),
        ("export", "chen", "decided", "exported"),
    ]
    assert [row.at for row in history] == [NOW, NOW, LATER, LATER]
    assert history[0].details == {"origin": "traffic", "reference": "req-1"}
    assert history[3].details == {"version": 1}


def test_reviewed_first_is_what_has_the_highest_priority_then_the_oldest(review: Review):
    late = review.add("steel", png(9), UPLOAD, ANNA, key="late", now=LATER).item.id
    low, high = add(review, 1), add(review, 2, 0.7)
    found = [review.claim_next("steel", BEA, key=str(n), now=LATER) for n in range(4)]
    assert [item and item.id for item in found] == [high, low, late, None]


def test_an_expired_claim_is_handed_out_again(review: Review):
    item = add(review, 1)
    review.claim(item, ANNA, key="a", now=NOW, lease=timedelta(minutes=1))
    with pytest.raises(HeldByAnother, match="anna has claimed it until"):
        review.claim(item, BEA, key="b", now=NOW)
    assert review.claim_next("steel", BEA, key="c", now=NOW) is None
    with pytest.raises(LeaseExpired, match="claim it again"):
        review.decide(item, CONFIRM, ANNA, key="d", now=LATER)
    taken = review.claim_next("steel", BEA, key="e", now=LATER)
    assert taken is not None
    assert taken.status.holder == "bea"
    with pytest.raises(HeldByAnother, match="bea has claimed it"):
        review.decide(item, CONFIRM, ANNA, key="f", now=LATER)
    assert review.store.decisions(item) == []


def test_a_claim_can_be_renewed_and_given_back(review: Review):
    item = add(review, 1)
    review.claim(item, ANNA, key="a", now=NOW)
    renewed = review.renew(item, ANNA, key="b", now=LATER, lease=timedelta(hours=1))
    assert renewed.status.lease_until == LATER + timedelta(hours=1)
    assert review.release(item, ANNA, key="c", now=LATER).status.state is State.PENDING
    assert review.claim(item, BEA, key="d", now=LATER).status.holder == "bea"
    assert review.release(item, CHEN, key="e", now=LATER).status.holder is None


def test_each_decision_has_its_label(review: Review):
    items = [decided(review, n, answer) for n, answer in enumerate((CONFIRM, CORRECT, REJECT))]
    labels = [review.store.decisions(item)[0].label for item in items]
    assert labels == [{"boxes": [{"class_name": "scratch", "box": [0.0, 0.0, 10.5, 10.0]}]}, BOX, None]
    assert review.store.decisions(items[2])[0].reason == "blurred"
    version = review.export("steel", ANNA, key="e", now=LATER)
    assert version is not None
    assert version.num_items == 2
    assert review.store.item(items[2]).status.state is State.DECIDED
    assert review.export("steel", ANNA, key="e2", now=LATER) is None


def test_a_reopened_item_keeps_what_was_decided_and_exported(review: Review):
    item = decided(review, 1)
    review.export("steel", ANNA, key="e", now=LATER)
    review.reopen(item, "wrong class", CHEN, key="r", now=LATER)
    review.claim(item, BEA, key="c", now=LATER)
    review.decide(item, CORRECT, BEA, key="d", now=LATER)
    review.export("steel", ANNA, key="e2", now=LATER)
    assert [(d.round, d.reviewer, d.label == BOX) for d in review.store.decisions(item)] == [
        (1, "anna", False),
        (2, "bea", True),
    ]
    first, second = (review.store.version("steel", n) for n in (1, 2))
    assert [decision.round for _, decision in first] == [1]
    assert [decision.round for _, decision in second] == [2]
    assert review.store.item(item).status.version == 2
    assert [version.number for version in review.store.versions("steel")] == [1, 2]


def test_the_same_image_is_one_item_of_a_use_case(review: Review):
    first = review.add("steel", png(1), UPLOAD, ANNA, key="a", now=NOW)
    again = Arrival(Origin.TRAFFIC, "req-7", comment="missed a dent")
    second = review.add("steel", png(1), again, BEA, key="b", now=LATER)
    other = review.add("casting", png(1), Arrival(Origin.UPLOAD), ANNA, key="c", now=NOW)
    assert (first.is_new, second.is_new, other.is_new) == (True, False, True)
    assert first.item == second.item
    assert other.item.id != first.item.id
    assert [(a.origin, a.comment) for a in review.store.arrivals(first.item.id)] == [
        (Origin.UPLOAD, ""),
        (Origin.TRAFFIC, "missed a dent"),
    ]
    assert [item.id for item in review.store.items(ItemFilter(reference="req-7"))] == [first.item.id]


def test_a_write_that_comes_again_is_done_once_and_answered_the_same(review: Review):
    def add_one(comment: str = "x"):
        arrival = dataclasses.replace(UPLOAD, comment=comment)
        return review.add("steel", png(1), arrival, ANNA, key="add", now=NOW)

    added = add_one()
    item = added.item.id
    steps = [
        add_one,
        lambda: review.claim_next("steel", ANNA, key="claim", now=NOW),
        lambda: review.renew(item, ANNA, key="renew", now=LATER),
        lambda: review.release(item, ANNA, key="release", now=LATER),
        lambda: review.claim(item, ANNA, key="claim 2", now=LATER),
        lambda: review.decide(item, CONFIRM, ANNA, key="decide", now=LATER),
        lambda: review.export("steel", ANNA, key="export", now=LATER),
        lambda: review.reopen(item, "no", CHEN, key="reopen", now=LATER),
    ]
    answers = [step() for step in steps]
    assert [step() for step in steps] == answers
    assert len(review.store.history(item)) == 8
    assert len(review.store.arrivals(item)) == 1
    with pytest.raises(KeyReused, match="key: anna used it for another write at 2026-11-29 12:00:00 UTC"):
        add_one("y")
    with pytest.raises(KeyReused):
        review.claim(item, ANNA, key="add", now=LATER)
    with pytest.raises(KeyReused):
        review.export("casting", ANNA, key="export", now=LATER)
    assert review.claim(item, BEA, key="add", now=LATER).status.holder == "bea"  # a key belongs to its actor


def test_what_is_not_there_is_said(review: Review):
    with pytest.raises(NotFound, match="item nothing: does not exist"):
        review.claim("nothing", ANNA, key="a", now=NOW)
    with pytest.raises(NotFound, match="use case wood: is not in review"):
        review.add("wood", png(1), UPLOAD, ANNA, key="a", now=NOW)
    for call in (
        lambda: review.claim_next("wood", ANNA, key="b", now=NOW),
        lambda: review.export("wood", ANNA, key="c", now=NOW),
        lambda: review.store.stats("wood"),
        lambda: review.store.version("steel", 1),
        lambda: review.store.items(ItemFilter(after="x")),
        lambda: review.images.read("0" * 64),
    ):
        with pytest.raises(NotFound):
            call()


def test_items_are_listed_newest_first_in_pages(review: Review):
    items = [review.add("steel", png(n), UPLOAD, ANNA, key=str(n), now=NOW + timedelta(seconds=n)) for n in range(5)]
    newest = [added.item.id for added in reversed(items)]
    first = review.store.items(ItemFilter("steel", limit=3))
    rest = review.store.items(ItemFilter("steel", limit=3, after=first[-1].id))
    assert [item.id for item in first + rest] == newest
    review.claim(newest[0], ANNA, key="c", now=NOW)
    assert [item.id for item in review.store.items(ItemFilter(states=[State.CLAIMED]))] == newest[:1]
    assert len(review.store.items(ItemFilter(states=[State.CLAIMED, State.PENDING]))) == 5
    assert review.store.items(ItemFilter("casting")) == []
    assert review.store.items(ItemFilter(origin=Origin.BATCH)) == []
    assert [i.id for i in review.store.items(ItemFilter(sha256=items[2].item.image.sha256))] == [items[2].item.id]
    for limit in (0, 1001):
        with pytest.raises(Invalid, match="is not from 1 to 1000"):
            review.store.items(ItemFilter(limit=limit))


def test_the_state_of_a_queue_is_counted(review: Review):
    for number, answer in enumerate((CONFIRM, CORRECT, REJECT, CONFIRM)):
        decided(review, number, answer)
    review.export("steel", ANNA, key="e", now=LATER)
    decided(review, 10)
    add(review, 11)
    stats = review.store.stats("steel")
    assert stats.states == {"pending": 1, "claimed": 0, "decided": 2, "exported": 3}
    assert stats.verdicts == {"confirm": 3, "correct": 1, "reject": 1}
    assert (stats.reviewers, stats.unused, stats.oldest_pending, stats.versions) == ({"anna": 5}, 1, NOW, 1)
    assert review.store.stats("casting").oldest_pending is None


def test_classes_are_added_behind_those_that_are_there(review: Review):
    more = dataclasses.replace(STEEL, scheme=LabelScheme(class_names=("scratch", "dent", "rust")))
    review.put_use_case(more)
    review.put_use_case(more)
    assert review.store.use_case("steel") == more
    assert review.store.use_cases() == [CASTING, more]
    for scheme in (STEEL.scheme, LabelScheme(class_names=("dent", "scratch", "rust"))):
        with pytest.raises(Conflict, match="its classes differ from those in review; append new ones"):
            review.put_use_case(dataclasses.replace(STEEL, scheme=scheme))
    one = LabelScheme(questions=(Question(name="label", class_names=("a", "b")),))
    with pytest.raises(Conflict, match="is in review as detection, not classification"):
        review.put_use_case(UseCase("steel", "classification", one))


def test_a_reviewer_who_looked_away_while_it_was_reopened_decides_nothing(review: Review):
    item = add(review, 1)
    review.claim(item, ANNA, key="a", now=NOW)
    stale = review.store.item(item)
    review.decide(item, CONFIRM, ANNA, key="b", now=NOW)
    review.reopen(item, "no", CHEN, key="c", now=NOW)
    review.claim(item, ANNA, key="d", now=NOW)
    review.store.item = lambda _: stale  # the item as it was read before
    with pytest.raises(WrongState, match="was reopened meanwhile"):
        review.decide(item, CORRECT, ANNA, key="e", now=NOW)


def test_many_reviewers_at_once_get_an_item_each(review: Review):
    for number in range(12):
        add(review, number)
    start = threading.Barrier(4)

    def work(name: str) -> list[str]:
        start.wait()
        mine = []
        for n in range(12):
            item = review.claim_next("steel", Actor(name), key=f"c{n}", now=NOW)
            if item is None:
                break
            review.decide(item.id, CONFIRM, Actor(name), key=f"d{n}", now=NOW)
            mine.append(item.id)
        return mine

    with ThreadPoolExecutor(4) as pool:
        found = [item for mine in pool.map(work, "abcd") for item in mine]
    assert len(found) == len(set(found)) == 12
    assert sum(review.store.stats("steel").reviewers.values()) == 12


def test_of_many_who_want_one_item_one_wins(review: Review):
    item = add(review, 1)
    start = threading.Barrier(4)

    def work(name: str) -> str:
        start.wait()
        try:
            return str(review.claim(item, Actor(name), key="c", now=NOW).status.holder)
        except HeldByAnother as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(work, "abcd"))
    (winner,) = [answer for answer in said if len(answer) == 1]
    assert sum(f"{winner} has claimed it until" in answer for answer in said) == 3


def test_the_same_write_from_many_at_once_is_done_once(review: Review):
    start = threading.Barrier(4)

    def work(_: int):
        start.wait()
        return review.add("steel", png(1), UPLOAD, ANNA, key="k", now=NOW)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, range(4)))
    assert answers == [answers[0]] * 4
    assert answers[0].is_new
    assert len(review.store.arrivals(answers[0].item.id)) == 1


def test_exports_at_once_share_nothing(review: Review):
    for number in range(8):
        decided(review, number)
    start = threading.Barrier(3)

    def work(name: str) -> DataVersion | None:
        start.wait()
        return review.export("steel", Actor(name), key="e", now=LATER)

    with ThreadPoolExecutor(3) as pool:
        made = [version for version in pool.map(work, "abc") if version]
    assert [(version.number, version.num_items) for version in made] == [(1, 8)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE review_items SET state = 'lost'",
        "UPDATE review_items SET state = 'claimed'",
        "UPDATE review_items SET version = 1",
        "UPDATE review_items SET holder = NULL",
        "UPDATE review_items SET use_case = 'wood'",
        "UPDATE review_decisions SET label = NULL",
        "UPDATE review_decisions SET verdict = 'maybe'",
        "DELETE FROM review_images",
        "INSERT INTO review_members VALUES ('none', 'steel', 1)",
    ],
)
def test_the_schema_itself_holds_what_must_hold(review: Review, place: str, statement: str):
    decided(review, 1)
    database = Database(place)
    with pytest.raises(IntegrityError), Session(database.engine) as session, session.begin():
        session.execute(text(statement))
    database.close()
