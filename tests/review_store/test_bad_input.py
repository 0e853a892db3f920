"""Input of people and programs: text is never executed, and invalid input is refused before it is stored."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.helpers.images import BROKEN
from tests.helpers.review import ANNA, BOX, CASTING, CHEN, NOW, PREDICTED, STEEL, UPLOAD, png
from visionops.errors import ImageError, LabelError, TaskError
from visionops.review.errors import Invalid, WrongState
from visionops.review.items import Origin, Predicted, Reason, UseCase
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Arrival, Review
from visionops.review.states import Actor, State, Verdict
from visionops.tasks.labelling import LabelScheme

TRICKS = [
    "'; DROP TABLE review_items; --",
    '" OR 1=1 --',
    "../../../../etc/passwd",
    "C:\\windows\\system32",
    "%s %(name)s :name {0} $1",
    "<script>alert(1)</script>",
    "\u202egnp.trap",
    "部品 pièce 🔩",
    "null",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_are_kept_as_texts_wherever_a_text_may_be(review: Review, folder: str, trick: str):
    case = UseCase(trick, "detection", LabelScheme(class_names=(trick, "dent")))
    review.put_use_case(case)
    assert case in review.store.use_cases()
    actor, admin = Actor(trick), Actor(trick, is_admin=True)
    found = {"class_id": 0, "class_name": trick, "confidence": 0.5, "box": [0, 0, 9, 9]}
    predicted = Predicted(trick, trick, {"detections": [found]})
    label = {"boxes": [{"class_name": trick, "box": [0.0, 0.0, 9.0, 9.0]}]}
    arrival = Arrival(Origin.UPLOAD, trick, trick, trick, label, predicted, (Reason(trick[:40], 1, trick),))
    item = review.add(trick, png(1), arrival, actor, key=trick, now=NOW).item
    assert (item.first.name, item.first.comment, item.first.proposed) == (trick, trick, label)
    assert item.first.predicted is not None
    assert item.first.predicted.answer["detections"][0]["class_name"] == trick
    assert [one.id for one in review.store.items(ItemFilter(trick, reference=trick))] == [item.id]
    review.claim_next(trick, actor, key=f"{trick}1", now=NOW)
    review.decide(item.id, Answer(Verdict.CONFIRM, comment=trick), actor, key=f"{trick}2", now=NOW)
    review.export(trick, actor, key=f"{trick}3", now=NOW)
    review.reopen(item.id, trick, admin, key=f"{trick}4", now=NOW)
    review.claim(item.id, actor, key=f"{trick}5", now=NOW)
    review.decide(item.id, Answer(Verdict.REJECT, reason=trick), actor, key=f"{trick}6", now=NOW)
    first, second = review.store.decisions(item.id)
    assert (first.label, first.comment, first.reviewer, second.reason) == (label, trick, trick, trick)
    assert review.store.stats(trick).reviewers == {trick: 2}
    assert review.store.stats("steel").states["pending"] == 0
    files = [path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()]
    assert [bool(re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{64}", file)) for file in files] == [True]


def nothing_is_kept(review: Review) -> bool:
    return review.store.items(ItemFilter()) == [] and list(review.images.digests()) == []


UNKEPT = {"nul": "a\0b", "bell": "a\x07b", "half": "a\ud800b", "long": "x" * 100_000_000}


@pytest.mark.parametrize("text", UNKEPT.values(), ids=UNKEPT)
def test_what_no_database_holds_is_refused_in_every_text(review: Review, text: str):
    def send(**more: object) -> None:
        review.add("steel", png(1), dataclasses.replace(UPLOAD, **more), ANNA, key="k", now=NOW)

    calls = [
        lambda: send(comment=text),
        lambda: send(name=text),
        lambda: send(reference=text),
        lambda: send(reasons=(Reason(text),)),
        lambda: send(reasons=(Reason("x", 0, text),)),
        lambda: send(predicted=Predicted(text, "1", PREDICTED.answer)),
        lambda: send(predicted=Predicted("m", text, PREDICTED.answer)),
        lambda: send(predicted=Predicted("m", "1", {"detections": [{"class_name": text}]})),
        lambda: Actor(text),
        lambda: review.add("steel", png(1), UPLOAD, ANNA, key=text, now=NOW),
        lambda: review.add(text, png(1), UPLOAD, ANNA, key="k", now=NOW),
        lambda: review.export(text, ANNA, key="k", now=NOW),
        lambda: UseCase(text, "detection", STEEL.scheme),
    ]
    for call in calls:
        with pytest.raises(Invalid) as caught:
            call()
        assert len(str(caught.value)) < 300
    assert nothing_is_kept(review)
    item = review.add("steel", png(1), UPLOAD, ANNA, key="k", now=NOW).item.id
    review.claim(item, ANNA, key="c", now=NOW)
    for answer in (Answer(Verdict.REJECT, reason=text), Answer(Verdict.CONFIRM, comment=text)):
        with pytest.raises(Invalid):
            review.decide(item, answer, ANNA, key="d", now=NOW)
    assert review.store.item(item).status.state is State.CLAIMED
    assert review.decide(item, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW).status.state is State.DECIDED
    with pytest.raises(Invalid):
        review.reopen(item, text, CHEN, key="r", now=NOW)


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "a\tb", "x" * 201])
def test_a_name_is_one_line_that_is_not_empty(review: Review, name: str):
    for call in (
        lambda: Actor(name),
        lambda: UseCase(name, "detection", STEEL.scheme),
        lambda: review.claim_next("steel", ANNA, key=name, now=NOW),
        lambda: Predicted(name, "1", {}),
    ):
        with pytest.raises(Invalid):
            call()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(review: Review, number: float):
    with pytest.raises(Invalid, match="is not a finite number"):
        Reason("uncertainty", number)
    found = {"class_id": 0, "class_name": "dent", "confidence": number, "box": [0, 0, 1, 1]}
    with pytest.raises(Invalid, match="is not a JSON number"):
        Predicted("m", "1", {"detections": [found]})
    label = {"boxes": [{"class_name": "dent", "box": [0, 0, number, 1]}]}
    with pytest.raises(LabelError, match="finite number"):
        review.add("steel", png(1), dataclasses.replace(UPLOAD, label=label), ANNA, key="k", now=NOW)
    assert nothing_is_kept(review)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"detections": [{"class_id": 0}]}, "prediction: 'detections.0.class_name' is missing"),
        ({"classification": {}}, "prediction: 'detections' is missing"),
        ({"detections": ["x" * 1_000_000] * 3}, "is larger than 2000000 characters"),
    ],
)
def test_a_prediction_has_the_form_of_its_task(review: Review, answer, words):
    with pytest.raises(Invalid, match=words):
        review.add(
            "steel", png(1), Arrival(Origin.UPLOAD, predicted=Predicted("m", "1", answer)), ANNA, key="k", now=NOW
        )
    assert nothing_is_kept(review)


def test_json_is_bounded_in_depth_and_kind():
    deep: dict[str, object] = {}
    for _ in range(50):
        deep = {"a": deep}
    for value in (deep, {"a": object()}, {1: "a"}, {"a": {"b": b"bytes"}}):
        with pytest.raises(Invalid):
            Predicted("m", "1", value)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_image_is_refused_and_not_kept(review: Review, name: str):
    # A valid header is enough to be stored; a person can still reject an image that does not decode.
    data = BROKEN[name][1]()
    try:
        review.add("steel", data, UPLOAD, ANNA, key="k", now=NOW)
    except ImageError:
        assert nothing_is_kept(review)


def test_a_decision_says_what_its_verdict_needs(review: Review):
    item = review.add("casting", png(1), Arrival(Origin.UPLOAD), ANNA, key="a", now=NOW).item.id
    review.claim(item, ANNA, key="c", now=NOW)
    label = {"class_name": "ok"}
    for answer, error, words in (
        (Answer(Verdict.CONFIRM), WrongState, "has no prediction to confirm; send a correction"),
        (Answer(Verdict.CONFIRM, label=label), Invalid, "a confirmation takes no label"),
        (Answer(Verdict.CORRECT), Invalid, "label: is missing; a correction needs one"),
        (Answer(Verdict.CORRECT, label=BOX), LabelError, "unknown key 'boxes'"),
        (Answer(Verdict.CORRECT, label={"class_name": "rust"}), LabelError, "unknown class 'rust'"),
        (Answer(Verdict.REJECT), Invalid, "reason: is empty; say why the image is rejected"),
        (Answer(Verdict.REJECT, reason="x", label=label), Invalid, "a rejection has none"),
    ):
        with pytest.raises(error, match=words):
            review.decide(item, answer, ANNA, key="d", now=NOW)
    assert review.store.decisions(item) == []
    review.decide(item, Answer(Verdict.CORRECT, label=label), ANNA, key="d", now=NOW)
    assert review.store.decisions(item)[0].label == label


def test_a_prediction_that_contradicts_the_scheme_cannot_be_confirmed(review: Review):
    found = {"class_id": 7, "class_name": "rust", "confidence": 0.5, "box": [0, 0, 9, 9]}
    arrival = Arrival(Origin.UPLOAD, predicted=Predicted("steel", "9", {"detections": [found]}))
    item = review.add("steel", png(1), arrival, ANNA, key="a", now=NOW).item.id
    review.claim(item, ANNA, key="c", now=NOW)
    with pytest.raises(LabelError, match=r"boxes\.0: unknown class 'rust'; expected one of scratch, dent"):
        review.decide(item, Answer(Verdict.CONFIRM), ANNA, key="d", now=NOW)


def test_a_use_case_fits_a_task_that_there_is(review: Review):
    with pytest.raises(TaskError, match="unknown task 'telepathy'"):
        review.put_use_case(UseCase("x", "telepathy", LabelScheme()))
    with pytest.raises(LabelError, match="boxes have classes"):
        review.put_use_case(UseCase("x", "detection", CASTING.scheme))


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
def test_a_lease_is_bounded(review: Review, seconds: int):
    review.add("steel", png(1), UPLOAD, ANNA, key="a", now=NOW)
    with pytest.raises(Invalid, match="lease: must end within 86400 s"):
        review.claim_next("steel", ANNA, key="c", now=NOW, lease=timedelta(seconds=seconds))
