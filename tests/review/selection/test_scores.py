"""Scores of pending images: bounded, independent of the order of images, and refused for invalid input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.review.errors import Invalid
from visionops.review.items import RANDOM
from visionops.review.selection.candidates import Candidate, QuestionProbabilities, answers_of, check_candidates
from visionops.review.selection.diversity import pick_diverse
from visionops.review.selection.ordering import KINDS, SelectionContext, order_queue
from visionops.review.selection.random_share import is_drawn, random_place
from visionops.review.selection.ranks import rank_shares
from visionops.review.selection.scoring import disagreement, novelty, rarity, uncertainty
from visionops.review.settings import ReviewConfig, SelectionWeights

ALL = SelectionWeights(uncertainty=1, disagreement=1, novelty=1, rare=1, diversity=1)
NAMES = ("ok", "dent", "scratch")
SHARES = st.floats(0, 1)
EXAMPLES = settings(max_examples=40, deadline=None)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Return candidates of one task and one model, as in a queue."""
    has_questions, width = draw(st.booleans()), draw(st.integers(1, 5))
    found = []
    for number in range(draw(st.integers(0, 12))):
        raw = np.array(draw(st.lists(st.floats(0.01, 1), min_size=3, max_size=3)))
        answered = (QuestionProbabilities("", dict(zip(NAMES, (raw / raw.sum()).tolist(), strict=True))),)
        boxes = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0.25, 1)), max_size=3))
        embedding = np.array(draw(st.lists(st.floats(-5, 5, width=32), min_size=width, max_size=width)), np.float32)
        found.append(
            Candidate(
                id=f"item-{number}",
                labels=() if has_questions else tuple(boxes),
                answered=answered if has_questions else (),
                threshold=0.25,
                embedding=embedding if draw(st.booleans()) else np.empty(0, np.float32),
                agreement=draw(st.none() | SHARES),
            )
        )
    return found


@given(candidates(), st.integers(0, 2**32 - 1))
@EXAMPLES
def test_scores_are_bounded_and_do_not_depend_on_the_order_of_the_images(queue: list[Candidate], seed: int):
    reference = np.random.default_rng(seed).normal(size=(8, 3)).astype(np.float32)
    turned = [queue[place] for place in np.random.default_rng(seed).permutation(len(queue))]
    for score, most in (
        (uncertainty, 1.0),
        (disagreement, 1.0),
        (lambda some: novelty(some, reference), 2.0),
        (lambda some: rarity(some, {"ok": 9, "dent": 3}), 1.0),
    ):
        here, there = score(queue), score(turned)
        assert here.values.shape == (len(queue),)
        assert ((here.values >= 0) & (here.values <= most + 1e-6)).all()
        by_id = {one.id: value for one, value in zip(turned, there.values, strict=True)}
        for place, one in enumerate(queue):
            assert by_id[one.id] == pytest.approx(here.values[place], abs=1e-5)
            if here.values[place]:
                assert here.text(place)


@given(candidates(), st.integers(0, 2**32 - 1), SHARES)
@EXAMPLES
def test_every_image_has_its_place_whatever_order_they_come_in(queue: list[Candidate], seed: int, share: float):
    config = ReviewConfig(selection=ALL, random_share=share)
    ordered = order_queue(queue, SelectionContext(counts={"ok": 5}), config)
    turned = [queue[place] for place in np.random.default_rng(seed).permutation(len(queue))]
    assert sorted(one.id for one in ordered) == sorted(one.id for one in queue)
    assert [one.priority for one in ordered] == sorted((one.priority for one in ordered), reverse=True)
    for one in ordered:
        assert -1e-9 <= one.priority <= 1 + 1e-9
        kinds = {reason.kind for reason in one.reasons}
        assert kinds == {RANDOM} or kinds <= KINDS
        assert (RANDOM in kinds) == is_drawn(one.id, share)
        assert all(reason.text for reason in one.reasons)
    again = {one.id: one for one in order_queue(turned, SelectionContext(counts={"ok": 5}), config)}
    for one in ordered:
        mine, theirs = (
            {r.kind: r.value for r in x.reasons if r.kind in KINDS - {"diversity"}} for x in (one, again[one.id])
        )
        assert mine == pytest.approx(theirs, abs=1e-6)


@given(st.lists(st.floats(0, 1e6), max_size=30), st.floats(0.1, 10))
@EXAMPLES
def test_shares_keep_the_order_and_forget_the_scale(values: list[float], scale: float):
    scores = np.array(values)
    shares = rank_shares(scores)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares[scores == 0] == 0).all()
    for a in range(len(scores)):
        assert all((shares[a] < shares[b]) == (scores[a] < scores[b]) for b in range(len(scores)))
    assert rank_shares(np.float64(2) ** np.round(scale) * scores) == pytest.approx(shares)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6))
@EXAMPLES
def test_the_first_picks_are_one_of_each_cluster(seed: int, clusters: int, copies: int):
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(8, 8)))[0][:clusters]
    rows = np.repeat(centres, copies, axis=0) + rng.normal(size=(clusters * copies, 8)) * 1e-3
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    of_cluster = np.repeat(np.arange(clusters), copies)
    spread = pick_diverse(rows, np.empty((0, 0), np.float32), np.zeros(len(rows)), 1.0)
    first = np.argsort(-spread.shares, kind="stable")[:clusters]
    assert sorted(of_cluster[first]) == list(range(clusters))
    # Labelled images count as picked, so their cluster comes last.
    spread = pick_diverse(rows, centres[:1].astype(np.float32), np.zeros(len(rows)), 1.0)
    first = np.argsort(-spread.distances, kind="stable")[: clusters - 1]
    assert sorted(of_cluster[first]) == list(range(1, clusters))


def test_sums_fall_from_pick_to_pick():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = rng.random(40)
    whole = scores + pick_diverse(rows, rows[:3], scores, 0.7).shares * 0.7
    order = np.argsort(-whole, kind="stable")
    for picks in (1, 5, 20):
        sums = scores + pick_diverse(rows, rows[:3], scores, 0.7, picks).shares * 0.7
        assert (np.argsort(-sums, kind="stable")[:picks] == order[:picks]).all()
        assert sums[order[:picks]] == pytest.approx(whole[order[:picks]])


def image(name: str, *, ok: float = 0.0, **columns: object) -> Candidate:
    answered = (QuestionProbabilities("", {"ok": ok, "defective": 1 - ok}),) if ok else ()
    return Candidate(name, answered=answered, **columns)  # type: ignore[arg-type]


def test_the_text_says_why():
    queue = [
        image("a", ok=0.52),
        image("b", ok=0.9),
        image("c", labels=(("dent", 0.27), ("dent", 0.9)), threshold=0.25),
    ]
    scores = uncertainty(queue)
    assert scores.text(0) == "probability of ok 0.52, of defective 0.48"
    assert scores.values == pytest.approx([0.96, 0.2, 1 - 0.02 / 0.75])
    assert scores.text(2) == "dent with confidence 0.27, threshold 0.25"
    assert rarity([queue[1]], {"ok": 40, "defective": 10}).text(0) == "defective with 0.10, of which 10 are labelled"
    assert disagreement([image("d", agreement=0.25)]).text(0) == "the shadow model agrees by 25%"


def test_a_threshold_of_the_model_is_where_it_is_undecided():
    answers = [
        QuestionProbabilities("", {"ok": 1 - p, "bad": p}, positive="bad", threshold=0.2) for p in (0.2, 0.5, 1.0, 0.0)
    ]
    values = uncertainty([Candidate(str(n), answered=(one,)) for n, one in enumerate(answers)]).values
    assert values == pytest.approx([1, 0.625, 0, 0])


def test_the_most_undecided_question_counts_and_is_named():
    hat, mood = (
        QuestionProbabilities("hat", {"yes": 0.99, "no": 0.01}),
        QuestionProbabilities("mood", {"good": 0.6, "bad": 0.4}),
    )
    scores = uncertainty([Candidate("a", answered=(hat, mood))])
    assert scores.text(0) == "mood: probability of good 0.60, of bad 0.40"


def test_new_is_what_is_far_from_the_validation_images():
    reference = np.array([[1, 0, 0], [0.99, 0.1, 0], [0.98, 0, 0.1]], np.float32)
    queue = [Candidate("near", embedding=reference[0] * 3), Candidate("far", embedding=np.array([0, 1, 1], np.float32))]
    scores = novelty(queue, reference)
    assert scores.values[0] == pytest.approx(0, abs=1e-3)  # length does not matter
    assert scores.values[1] > 1
    assert "than 100% of them are" in scores.text(1)
    other_model = np.ones((3, 7), np.float32)
    assert novelty(queue, other_model).values.tolist() == [0, 0]


def test_the_random_share_depends_on_the_item_alone():
    ids = [f"item-{n}" for n in range(2000)]
    drawn = [one for one in ids if is_drawn(one, 0.1)]
    assert 150 < len(drawn) < 250
    assert set(drawn) <= {one for one in ids if is_drawn(one, 0.2)}
    assert drawn != [one for one in ids if is_drawn(one, 0.1, seed=1)]
    sure, unsure = ([image(one, ok=p) for one in ids[:200]] for p in (0.99, 0.51))
    config = ReviewConfig(random_share=0.1)
    found = [
        {one.id for one in order_queue(queue, SelectionContext(), config) if [r.kind for r in one.reasons] == [RANDOM]}
        for queue in (sure, unsure, [Candidate(one) for one in ids[:200]])
    ]
    assert found[0] == found[1] == found[2] == {one for one in ids[:200] if is_drawn(one, 0.1)}
    places = [random_place(one) for one in drawn]
    assert 0.4 < np.mean(places) < 0.6


def test_images_at_random_stand_anywhere_in_the_queue():
    queue = [image(f"item-{n}", ok=0.5 + n / 4000) for n in range(1000)]
    ordered = order_queue(queue, SelectionContext(), ReviewConfig(random_share=0.2))
    thirds = [sum(one.reasons[0].kind == RANDOM for one in ordered[at : at + 333]) for at in (0, 333, 666)]
    assert all(45 < count < 90 for count in thirds)


def test_who_belongs_to_the_share_stays_and_who_complained_does_not_enter():
    queue = [image("item-1", ok=0.6), image("item-2", ok=0.7)]
    ordered = order_queue(queue, SelectionContext(), ReviewConfig(random_share=0), drawn=frozenset({"item-2"}))
    assert {one.id: one.reasons[0].kind for one in ordered} == {"item-1": "uncertainty", "item-2": RANDOM}
    everything = order_queue(queue, SelectionContext(), ReviewConfig(random_share=1), closed=frozenset({"item-1"}))
    assert {one.id: one.reasons[0].kind for one in everything} == {"item-1": "uncertainty", "item-2": RANDOM}


def test_a_batch_is_not_copies_of_one_part():
    near = np.array([[1, 0.001 * n, 0] for n in range(20)], np.float32)
    other = np.array([[0, 1, 0.001 * n] for n in range(3)], np.float32)
    queue = [image(f"copy-{n}", ok=0.5, embedding=row) for n, row in enumerate(near)]
    queue += [image(f"other-{n}", ok=0.6, embedding=row) for n, row in enumerate(other)]
    ordered = order_queue(
        queue, SelectionContext(labelled=np.array([[0, 0, 1]], np.float32)), ReviewConfig(random_share=0)
    )
    assert {one.id.partition("-")[0] for one in ordered[:3]} == {"copy", "other"}
    diverse = ReviewConfig(random_share=0, selection=SelectionWeights(disagreement=0, diversity=0))
    alone = order_queue(queue, SelectionContext(), diverse)
    assert {one.id.partition("-")[0] for one in alone[:20]} == {"copy"}


@pytest.mark.parametrize(
    ("queue", "words"),
    [
        ([image("a", ok=0.5), image("a", ok=0.6)], "an item occurs twice"),
        ([image("a", ok=1.5)], "item a: 1.5 is not from 0 to 1"),
        ([image("a", ok=float("nan"))], "item a: nan is not from 0 to 1"),
        ([image("a", labels=(("dent", -0.1),))], "-0.1 is not from 0 to 1"),
        ([image("a", agreement=2.0)], "2.0 is not from 0 to 1"),
        ([image("a", embedding=np.array([np.inf], np.float32))], "item a: its embedding is not finite"),
        (
            [image("a", embedding=np.ones(2, np.float32)), image("b", embedding=np.ones(3, np.float32))],
            "differ in shape",
        ),
        ([Candidate("a", answered=(QuestionProbabilities("", {"ok": 1.0}),))], "fewer than two classes"),
        ([image("a", threshold=float("nan"))], "a threshold outside 0 to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(queue: list[Candidate], words: str):
    with pytest.raises(Invalid, match=words):
        check_candidates(queue)
    with pytest.raises(Invalid):
        order_queue(queue, SelectionContext(), ReviewConfig())


def test_probabilities_of_a_record_are_those_of_its_questions():
    heads = [("hat", ("yes", "no"), None, None), ("mood", ("good", "bad", "none"), None, None)]
    found = answers_of(heads, [0.9, 0.1, 0.2, 0.3, 0.5])
    assert [(one.name, one.probabilities) for one in found] == [
        ("hat", {"yes": 0.9, "no": 0.1}),
        ("mood", {"good": 0.2, "bad": 0.3, "none": 0.5}),
    ]
    with pytest.raises(Invalid, match="has 2 numbers, the model has 5 classes"):
        answers_of(heads, [0.9, 0.1])


@pytest.mark.parametrize(
    "raw", [{"selection": {"uncertainty": -1}}, {"random_share": 1.1}, {"selection": {"uncertanty": 1}}]
)
def test_settings_that_make_no_sense_are_refused(raw: dict[str, object]):
    with pytest.raises(ValueError, match="validation error"):
        ReviewConfig.model_validate(raw)


def test_weights_of_nothing_order_nothing():
    with pytest.raises(ValueError, match="all weights are 0"):
        SelectionWeights(**dict.fromkeys(SelectionWeights.model_fields, 0.0))


def test_an_empty_queue_and_one_without_any_answer():
    assert order_queue([], SelectionContext(), ReviewConfig()) == []
    (only,) = order_queue([Candidate("a", is_predicted=False)], SelectionContext(), ReviewConfig(random_share=0))
    assert only.reasons == ()
    (drawn,) = order_queue([Candidate("a", is_predicted=False)], SelectionContext(), ReviewConfig(random_share=1))
    assert drawn.reasons[0].kind == RANDOM
