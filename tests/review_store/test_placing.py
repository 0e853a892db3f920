"""New places in the queue: stored once on both databases, with their audit, and never for claimed items."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.helpers.review import ANNA, BEA, CASTING, CHEN, NOW, PREDICTED, UPLOAD, png
from visionops.review.errors import Invalid, KeyReused, NotFound, WrongState
from visionops.review.items import Origin, Predicted, QueuePlace, Reason
from visionops.review.ports import Prioritized, Write
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import Verdict
from visionops.review_store.models import ItemRow
from visionops.review_store.store import SqlReviewStore

LATER = NOW + timedelta(minutes=5)
UNSURE = Reason("uncertainty", 0.625, "probability of ok 0.52, of defect 0.48")
FAR = Reason("diversity", 0.25, "unlike what is labelled")
NEXT = Predicted("steel", "4", {"detections": []})


def add(review: Review, number: int, arrival: Arrival = UPLOAD) -> str:
    return review.add("steel", png(number), arrival, ANNA, key=f"add {number}", now=NOW).item.id


def place(review: Review, *placed: QueuePlace, key: str = "p", use_case: str = "steel") -> Prioritized:
    write = Write.of(key, CHEN, LATER, use_case, [(one.item, [r.value for r in one.reasons]) for one in placed])
    return review.store.prioritize(use_case, placed, write)


def test_a_place_has_its_reasons_its_prediction_and_an_audit_row(review: Review):
    first, second = add(review, 1), add(review, 2)
    assert place(review, QueuePlace(first, (FAR,), None), QueuePlace(second, (UNSURE, FAR), NEXT)) == Prioritized(
        2, 0, 0
    )
    item = review.store.item(second)
    assert (item.reasons, item.priority, item.predicted) == ((UNSURE, FAR), 0.875, NEXT)
    assert (item.first.reasons, item.first.predicted) == ((), PREDICTED)
    assert review.store.item(first).predicted == PREDICTED
    assert (item.status.state.value, item.status.revision) == ("pending", 1)
    row = review.store.history(second)[-1]
    assert (row.revision, row.actor, row.action, row.before, row.after) == (
        1,
        "chen",
        "prioritize",
        "pending",
        "pending",
    )
    assert row.details == {"priority": 0.875, "model": "steel", "model_version": "4"}
    assert review.claim_next("steel", BEA, key="c", now=LATER).id == second  # type: ignore[union-attr]


def test_what_is_sent_again_is_done_once(review: Review):
    item = add(review, 1)
    for _ in range(2):
        assert place(review, QueuePlace(item, (UNSURE,), NEXT)) == Prioritized(1, 0, 0)
    assert len(review.store.history(item)) == 2
    assert place(review, QueuePlace(item, (UNSURE,), NEXT), key="again") == Prioritized(0, 1, 0)
    assert len(review.store.history(item)) == 2
    with pytest.raises(KeyReused):
        place(review, QueuePlace(item, (FAR,), NEXT))


def test_what_is_claimed_or_decided_is_left_alone(review: Review):
    claimed, decided, waiting = (add(review, n) for n in range(3))
    review.claim(claimed, ANNA, key="a", now=NOW)
    review.claim(decided, ANNA, key="b", now=NOW)
    review.decide(decided, Answer(Verdict.CONFIRM), ANNA, key="c", now=NOW)
    found = place(review, *(QueuePlace(item, (UNSURE,), NEXT) for item in (claimed, decided, waiting)))
    assert found == Prioritized(1, 0, 2)
    assert review.store.item(claimed).reasons == ()
    assert review.store.item(decided).predicted == PREDICTED
    assert review.decide(claimed, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW).status.verdict is Verdict.CONFIRM


def test_a_confirmation_is_of_the_present_prediction(review: Review):
    item = add(review, 1, Arrival(Origin.UPLOAD))
    review.claim(item, ANNA, key="a", now=NOW)
    with pytest.raises(WrongState, match="has no prediction to confirm"):
        review.decide(item, Answer(Verdict.CONFIRM), ANNA, key="b", now=NOW)
    review.release(item, ANNA, key="c", now=NOW)
    place(review, QueuePlace(item, (UNSURE,), PREDICTED))
    review.claim(item, ANNA, key="d", now=NOW)
    review.decide(item, Answer(Verdict.CONFIRM), ANNA, key="e", now=NOW)
    (decision,) = review.store.decisions(item)
    assert decision.label == {"boxes": [{"class_name": "scratch", "box": [0.0, 0.0, 10.5, 10.0]}]}


def test_nothing_is_changed_where_one_item_is_wrong(review: Review):
    item = add(review, 1)
    other = review.add(CASTING.name, png(2), Arrival(Origin.UPLOAD), ANNA, key="o", now=NOW).item.id
    for wrong in ("nothing", other, "'; DROP TABLE review_items; --"):
        with pytest.raises(NotFound, match="does not exist in steel"):
            place(review, QueuePlace(item, (UNSURE,), None), QueuePlace(wrong, (UNSURE,), None))
    with pytest.raises(NotFound, match="use case gold"):
        place(review, use_case="gold")
    with pytest.raises(Invalid, match="one occurs twice"):
        place(review, QueuePlace(item, (UNSURE,), None), QueuePlace(item, (FAR,), None))
    with pytest.raises(Invalid, match="21 are too many"):
        QueuePlace(item, (UNSURE,) * 21, None)
    assert review.store.item(item).reasons == ()
    assert len(review.store.history(item)) == 1


def test_more_items_than_a_statement_takes(review: Review, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("visionops.review_store.placing._BLOCK", 3)
    items = [add(review, n) for n in range(8)]
    found = place(review, *(QueuePlace(item, (Reason("diversity", n / 10),), None) for n, item in enumerate(items)))
    assert found == Prioritized(8, 0, 0)
    taken = [review.claim_next("steel", BEA, key=str(n), now=LATER) for n in range(3)]
    assert [one and one.id for one in taken] == items[:-4:-1]


def test_who_asks_while_the_queue_is_put_in_order_waits_for_an_item(review: Review):
    """With every row locked, `SKIP LOCKED` finds nothing, although items are pending."""
    item = add(review, 1)
    store = review.store
    assert isinstance(store, SqlReviewStore)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        def work(session: object) -> None:
            session.scalars(select(ItemRow).where(ItemRow.use_case == "steel").with_for_update()).all()  # type: ignore[attr-defined]
            locked.set()
            done.wait(0.5)

        store._database.write(work)

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(hold)
        locked.wait(10)
        taken = pool.submit(lambda: review.claim_next("steel", BEA, key="c", now=LATER))
        found = taken.result(20)
        holder.result(20)
    assert found is not None
    assert found.id == item
