"""Measures of agreement, compared with scikit-learn and values by hand."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import cohen_kappa_score, f1_score

from launch.agreement_table import agreement_lines
from tests.helpers.review import CASTING, NOW, STEEL
from visionops.review.agreement import LEAST_ITEMS, measure_agreement
from visionops.review.items import Opinion, UseCase
from visionops.review.states import Verdict
from visionops.tasks.labelling import LabelScheme, Question

FACE = UseCase(
    "face",
    "attributes",
    LabelScheme(
        questions=(
            Question(name="hat", class_names=("no", "yes")),
            Question(name="mood", class_names=("glad", "sad", "both")),
        )
    ),
)


def said(item: int, number: int, reviewer: str, label) -> Opinion:
    verdict = Verdict.CORRECT if label else Verdict.REJECT
    return Opinion(f"{item:08}", 1, number, reviewer, NOW, verdict, label, "" if label else "blurred")


def two(labels, names=("anna", "bea")) -> list[Opinion]:
    return [said(n, k, names[k - 1], pair[k - 1]) for n, pair in enumerate(labels) for k in (1, 2)]


def boxes(*found):
    return {"boxes": [{"class_name": name, "box": list(corners)} for name, *corners in found]}


def test_kappa_and_f1_of_classes_are_those_of_scikit_learn():
    chance = random.Random(3)
    first = [chance.choice(("ok", "ok", "defective")) for _ in range(200)]
    second = [one if chance.random() < 0.8 else "defective" for one in first]
    labels = [({"class_name": a}, {"class_name": b}) for a, b in zip(first, second, strict=True)]
    found = measure_agreement(CASTING, two(labels))
    kappa = cohen_kappa_score(first, second)
    assert found.questions["label"].value == pytest.approx(kappa, abs=1e-12)
    assert found.overall.kappa.value == pytest.approx(kappa, abs=1e-12)
    for name in ("ok", "defective"):
        assert found.classes[name].value == pytest.approx(f1_score(first, second, pos_label=name), abs=1e-12)
    agreed = sum(a == b for a, b in zip(first, second, strict=True)) / 200
    assert found.overall.agreed.value == pytest.approx(agreed)
    assert found.overall.kappa.low < kappa < found.overall.kappa.high
    assert found.overall.agreed.num_items == 200


def test_each_attribute_has_its_kappa_and_not_to_know_is_an_answer():
    chance = random.Random(4)
    answers = [
        [{"hat": chance.choice(("no", "yes", None)), "mood": chance.choice(("glad", "sad", "both"))} for _ in range(2)]
        for _ in range(120)
    ]
    found = measure_agreement(FACE, two([[{"attributes": one} for one in pair] for pair in answers]))
    for name in ("hat", "mood"):
        columns = [[str(pair[k][name]) for pair in answers] for k in (0, 1)]
        assert found.questions[name].value == pytest.approx(cohen_kappa_score(*columns), abs=1e-12)
    assert set(found.classes) == {"hat=no", "hat=yes", "mood=glad", "mood=sad", "mood=both"}
    same = sum(a == b for a, b in answers)
    assert found.overall.agreed.value == pytest.approx(same / 120)


def test_boxes_are_matched_by_class_and_overlap():
    labels = [
        (boxes(("dent", 0, 0, 10, 10)), boxes(("dent", 0, 0, 10, 9))),  # IoU 0.9
        (boxes(("dent", 0, 0, 10, 10)), boxes(("dent", 0, 0, 10, 5))),  # IoU 0.5, which is enough
        (boxes(("dent", 0, 0, 10, 10)), boxes(("dent", 0, 0, 10, 4))),  # IoU 0.4
        (boxes(("dent", 0, 0, 10, 10)), boxes(("scratch", 0, 0, 10, 10))),
        (boxes(), boxes()),
        (boxes(), boxes(("scratch", 1, 1, 9, 9))),
    ]
    found = measure_agreement(STEEL, two(labels))
    assert found.overall.agreed.value == pytest.approx(3 / 6)
    # Of dents 4 and 3, of which 2 match; of scratches none and 2.
    assert found.classes["dent"].value == pytest.approx(2 * 2 / 7)
    assert (found.classes["dent"].num_items, found.classes["scratch"].num_items) == (4, 2)
    assert found.classes["scratch"].value == 0
    assert found.overall.f1.value == pytest.approx(4 / 9)
    has_dent = [["some"] * 4 + ["none"] * 2, ["some"] * 3 + ["none"] * 3]
    assert found.questions["dent"].value == pytest.approx(cohen_kappa_score(*has_dent))


def test_a_rejection_is_no_label_but_an_answer():
    ok, bad = {"class_name": "ok"}, {"class_name": "defective"}
    found = measure_agreement(CASTING, two([(ok, ok), (bad, bad), (None, None), (None, ok)]))
    verdicts = [[0, 0, 1, 1], [0, 0, 1, 0]]
    assert found.rejection.value == pytest.approx(cohen_kappa_score(*verdicts))
    assert found.overall.agreed.value == pytest.approx(3 / 4)
    assert (found.questions["label"].value, found.questions["label"].num_items) == (1.0, 2)


def test_pairs_and_reviewers_are_separate_and_the_third_counts_for_nobody():
    ok, bad = {"class_name": "ok"}, {"class_name": "defective"}
    opinions = two([(ok, ok), (bad, bad)])
    opinions += [said(10, 1, "chen", ok), said(10, 2, "anna", bad), said(10, 3, "bea", bad)]
    opinions += [said(11, 1, "anna", ok)]  # waits for a second opinion
    found = measure_agreement(CASTING, opinions)
    assert set(found.pairs) == {("anna", "bea"), ("anna", "chen")}
    assert found.pairs["anna", "bea"].agreed.value == 1
    assert found.pairs["anna", "chen"].agreed.value == 0
    assert {name: one.agreed.num_items for name, one in found.reviewers.items()} == {"anna": 3, "bea": 2, "chen": 1}


def test_few_items_have_no_interval_and_one_answer_alone_no_kappa():
    ok = {"class_name": "ok"}
    few = measure_agreement(CASTING, two([(ok, ok)] * (LEAST_ITEMS - 1)))
    assert few.overall.kappa.value is None
    assert (few.overall.agreed.value, few.overall.agreed.low, few.overall.agreed.is_reliable) == (1, None, False)
    enough = measure_agreement(CASTING, two([(ok, ok)] * LEAST_ITEMS))
    assert (enough.overall.agreed.low, enough.overall.agreed.high) == (1, 1)
    none = measure_agreement(CASTING, [])
    assert (none.overall.agreed.value, none.overall.f1.value, none.pairs) == (None, None, {})


def test_the_table_fits_a_terminal():
    name = "a class with a name that is much longer than a column" * 2
    labels = [(boxes((name, 0, 0, 9, 9)), boxes((name, 0, 0, 9, 9), ("dent", 20, 20, 30, 30)))] * 25
    scheme = LabelScheme(class_names=(name, "dent"))
    opinions = two(labels, ("anna\n" * 20, "bea"))
    lines = list(agreement_lines(measure_agreement(UseCase("steel", "detection", scheme), opinions)))
    assert max(map(len, lines)) <= 80
    assert all("\n" not in line for line in lines)
    assert any(line.startswith("class dent") and "0.00 (0.00, 0.00)" in line for line in lines)
    few = list(agreement_lines(measure_agreement(STEEL, two([(boxes(), boxes())]))))
    assert any("1.00 (too few)" in line for line in few)
    assert list(agreement_lines(measure_agreement(STEEL, []))) == [
        "steel: no image has two opinions yet; see review.second_opinion"
    ]
