"""Second opinions on SQLite and PostgreSQL: two blind reviewers, and a third one where they disagree."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.helpers.review import ANNA, BEA, BOX, CHEN, DORA, NOW, UPLOAD, png
from visionops.review.errors import HeldByAnother, Invalid, NotFound, OpinionGiven, WrongState
from visionops.review.items import Reason, ReviewItem
from visionops.review.opinions import LABEL_ERROR, SeenOpinion
from visionops.review.service import Answer, Review
from visionops.review.states import Actor, State, Verdict
from visionops.review_store.database import Database

CONFIRM = Answer(Verdict.CONFIRM, comment="anna's words")
CORRECT = Answer(Verdict.CORRECT, label=BOX)
REJECT = Answer(Verdict.REJECT, reason="blurred")
LATER = NOW + timedelta(minutes=1)
REST = "at, verdict, label, reason, comment"
CONFIRMED = {"boxes": [{"class_name": "scratch", "box": [0.0, 0.0, 10.5, 10.0]}]}


@pytest.fixture
def item(review: Review) -> str:
    """Return an item that needs two opinions."""
    review.set_second_share("steel", 1)
    return review.add("steel", png(1), UPLOAD, ANNA, key="add", now=NOW).item.id


def say(review: Review, item: str, actor: Actor, answer: Answer, key: str = "1") -> ReviewItem:
    review.claim(item, actor, key=f"claim {item} {key}", now=NOW)
    return review.decide(item, answer, actor, key=f"decide {item} {key}", now=LATER)


def test_two_who_agree_decide_with_the_label_of_the_first(review: Review, item: str):
    kept = say(review, item, ANNA, CONFIRM)
    assert (kept.status.state, kept.status.holder, kept.status.verdict) == (State.PENDING, None, None)
    assert review.export("steel", CHEN, key="early", now=LATER) is None
    near = Answer(Verdict.CORRECT, label={"boxes": [{"class_name": "scratch", "box": [0.5, 0.5, 10.5, 10.0]}]})
    decided = say(review, item, BEA, near)
    assert (decided.status.state, decided.status.verdict) == (State.DECIDED, Verdict.CONFIRM)
    (decision,) = review.store.decisions(item)
    assert (decision.reviewer, decision.label, decision.at) == ("anna", CONFIRMED, LATER)
    assert [(o.number, o.reviewer, o.verdict) for o in review.store.opinions(item)] == [
        (1, "anna", Verdict.CONFIRM),
        (2, "bea", Verdict.CORRECT),
    ]
    assert [(row.action, row.actor, row.after) for row in review.store.history(item)][1:] == [
        ("claim", "anna", "claimed"),
        ("opinion", "anna", "pending"),
        ("claim", "bea", "claimed"),
        ("decide", "bea", "decided"),
    ]
    version = review.export("steel", CHEN, key="export", now=LATER)
    assert version is not None
    assert version.num_items == 1


def test_a_third_decides_where_two_disagree(review: Review, item: str):
    say(review, item, ANNA, CONFIRM)
    assert say(review, item, BEA, CORRECT).status.state is State.PENDING
    decided = say(review, item, DORA, REJECT)
    assert (decided.status.state, decided.status.verdict, decided.status.holder) == ("decided", "reject", "dora")
    (decision,) = review.store.decisions(item)
    assert (decision.reviewer, decision.label) == ("dora", None)
    assert [one.reviewer for one in review.store.opinions(item)] == ["anna", "bea", "dora"]


def test_nobody_sees_an_opinion_before_its_time(review: Review, item: str):
    assert review.opinions(item, BEA) == []
    say(review, item, ANNA, CONFIRM)
    claimed = review.claim_next("steel", BEA, key="next", now=NOW)
    assert claimed is not None
    for answer in (claimed, review.store.item(item)):
        assert "scratch" not in str(dataclasses.replace(answer.first, predicted=None)) + str(answer.status)
    assert review.opinions(item, BEA) == review.opinions(item, ANNA) == []
    assert review.opinions(item, CHEN) == [SeenOpinion(1, Verdict.CONFIRM, CONFIRMED, "", "anna", "anna's words")]
    assert review.store.decisions(item) == []
    assert [row.details for row in review.store.history(item) if row.action == "opinion"] == [{}]
    review.decide(item, CORRECT, BEA, key="d", now=NOW)
    # The third sees both, but neither the reviewers nor the order.
    nameless = [SeenOpinion(1, Verdict.CONFIRM, CONFIRMED, ""), SeenOpinion(1, Verdict.CORRECT, BOX, "")]
    assert review.opinions(item, DORA) == nameless
    say(review, item, DORA, REJECT)
    assert [(o.reviewer, o.verdict) for o in review.opinions(item, BEA)] == [
        ("anna", Verdict.CONFIRM),
        ("bea", Verdict.CORRECT),
        ("dora", Verdict.REJECT),
    ]


def test_the_order_of_what_a_third_sees_tells_nothing(review: Review, item: str):
    other = review.add("steel", png(2), UPLOAD, ANNA, key="add 2", now=NOW).item.id
    for one, (first, second) in ((item, (CONFIRM, CORRECT)), (other, (CORRECT, CONFIRM))):
        say(review, one, ANNA, first)
        say(review, one, BEA, second)
    assert review.opinions(item, DORA) == review.opinions(other, DORA)


def test_a_reviewer_gives_one_opinion_in_a_round(review: Review, item: str):
    say(review, item, ANNA, CONFIRM)
    with pytest.raises(OpinionGiven, match="anna already gave an opinion on it; claim another item") as caught:
        review.claim(item, ANNA, key="again", now=LATER)
    assert (caught.value.status, caught.value.code) == (409, "opinion_given")
    assert review.claim_next("steel", ANNA, key="next", now=LATER) is None
    with pytest.raises(WrongState, match="nobody has claimed it"):
        review.decide(item, CORRECT, ANNA, key="twice", now=LATER)
    taken = review.claim_next("steel", BEA, key="next", now=LATER)
    assert taken is not None
    assert taken.id == item
    # After her lease it is claimable for everybody except anna.
    assert review.claim_next("steel", ANNA, key="next 2", now=LATER + timedelta(hours=1)) is None
    assert review.claim_next("steel", DORA, key="next", now=LATER + timedelta(hours=1)) is not None


def test_what_waits_for_another_opinion_is_counted(review: Review, item: str):
    def waiting() -> tuple[int, int]:
        stats = review.store.stats("steel")
        return stats.second, stats.third

    assert waiting() == (0, 0)
    say(review, item, ANNA, CONFIRM)
    assert waiting() == (1, 0)
    review.claim(item, BEA, key="c", now=NOW)
    assert waiting() == (1, 0)
    review.decide(item, CORRECT, BEA, key="d", now=NOW)
    assert waiting() == (0, 1)
    say(review, item, DORA, CORRECT)
    assert waiting() == (0, 0)


def test_a_reopened_item_is_answered_anew(review: Review, item: str):
    say(review, item, ANNA, CONFIRM)
    say(review, item, BEA, CONFIRM)
    review.reopen(item, "wrong", CHEN, key="r", now=LATER)
    assert review.store.item(item).status.reviewers == ()
    assert say(review, item, ANNA, CORRECT, "2").status.state is State.PENDING
    assert [(o.round, o.reviewer) for o in review.opinions(item, DORA)] == [(1, "anna"), (1, "bea")]
    assert say(review, item, BEA, CORRECT, "2").status.state is State.DECIDED
    assert [(d.round, d.label) for d in review.store.decisions(item)] == [(1, CONFIRMED), (2, BOX)]
    assert [(o.round, o.number) for o in review.store.opinions_of("steel")] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_an_opinion_that_comes_again_is_kept_once_and_answered_the_same(review: Review, item: str):
    answers = {}
    for actor, answer in ((ANNA, CONFIRM), (BEA, CORRECT), (DORA, REJECT)):
        answers[actor] = answer, say(review, item, actor, answer)
    for actor, (answer, said) in answers.items():
        assert review.decide(item, answer, actor, key=f"decide {item} 1", now=LATER) == said
    assert len(review.store.opinions(item)) == 3
    assert len(review.store.history(item)) == 7


def test_of_two_who_want_to_give_the_second_opinion_one_wins(review: Review, item: str):
    say(review, item, ANNA, CONFIRM)
    start = threading.Barrier(2)

    def work(actor: Actor) -> str:
        start.wait()
        try:
            review.claim(item, actor, key="c", now=NOW)
            return str(review.decide(item, CONFIRM, actor, key="d", now=NOW).status.holder)
        except (HeldByAnother, WrongState):
            return ""

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(work, (BEA, DORA)))
    assert sorted(map(bool, said)) == [False, True]
    assert len(review.store.opinions(item)) == 2
    assert len(review.store.decisions(item)) == 1


def test_an_answer_made_before_another_opinion_is_refused(review: Review, item: str):
    stale = review.store.item(item)
    say(review, item, ANNA, CONFIRM)
    review.claim(item, BEA, key="c", now=NOW)
    review.store.item = lambda _: stale  # the item as it was read before
    with pytest.raises(WrongState, match="got another opinion meanwhile; send yours again"):
        review.decide(item, CORRECT, BEA, key="d", now=NOW)
    del review.store.item
    assert len(review.store.opinions(item)) == 1


def test_the_share_is_stable_and_can_be_switched_off(review: Review):
    review.set_second_share("steel", 0.3)
    items = [review.add("steel", png(n), UPLOAD, ANNA, key=f"a{n}", now=NOW).item.id for n in range(20)]
    waiting = {item for item in items if say(review, item, ANNA, CONFIRM).status.state is State.PENDING}
    assert 0 < len(waiting) < 20
    for item in waiting:
        say(review, item, BEA, CONFIRM)
    for item in items:
        review.reopen(item, "again", CHEN, key=f"r{item}", now=LATER)
    assert waiting == {item for item in items if say(review, item, ANNA, CONFIRM, "2").status.state is State.PENDING}
    review.set_second_share("steel", 0)
    new = review.add("steel", png(50), UPLOAD, ANNA, key="new", now=NOW).item.id
    assert say(review, new, ANNA, CONFIRM).status.state is State.DECIDED


def test_a_label_that_is_probably_wrong_needs_two_opinions_whenever_it_was_found(review: Review):
    review.set_second_share("steel", 1e-9)
    plain = review.add("steel", png(1), UPLOAD, ANNA, key="a", now=NOW).item.id
    assert say(review, plain, ANNA, CONFIRM).status.state is State.DECIDED
    found = dataclasses.replace(UPLOAD, reasons=(Reason(LABEL_ERROR, 0.9),))
    review.add("steel", png(2), UPLOAD, ANNA, key="b", now=NOW)
    item = review.add("steel", png(2), found, ANNA, key="c", now=NOW).item.id
    assert say(review, item, ANNA, CONFIRM).status.state is State.PENDING


def test_what_is_no_share_is_refused(review: Review):
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(Invalid, match="is not from 0 to 1"):
            review.set_second_share("steel", share)
    for call in (lambda: review.set_second_share("wood", 0.1), lambda: review.store.opinions_of("wood")):
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE review_items SET state = 'claimed', holder = first_reviewer, lease_until = added",
        "UPDATE review_items SET second_reviewer = first_reviewer",
        "UPDATE review_items SET first_reviewer = NULL, second_reviewer = 'dora'",
        "UPDATE review_use_cases SET second_share = 2",
        f"INSERT INTO review_opinions SELECT item, round, 2, reviewer, {REST} FROM review_opinions",
        f"INSERT INTO review_opinions SELECT item, round, 4, 'dora', {REST} FROM review_opinions",
        "UPDATE review_opinions SET verdict = 'reject'",
    ],
)
def test_the_database_itself_keeps_reviewers_to_one_opinion(review: Review, item: str, place: str, statement: str):
    say(review, item, ANNA, CONFIRM)
    database = Database(place)
    with Session(database.engine) as session, pytest.raises(IntegrityError):
        session.execute(text(statement))
    database.close()
