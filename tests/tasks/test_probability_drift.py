"""Class probabilities and their entropy, derived from every record of a classifier, including old ones."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from tests.helpers.bundles import filled, make_bundle, make_label_bundle
from visionops.inference.bundle import Head
from visionops.inference.predictor import Predictor
from visionops.inference.task_registry import served_task
from visionops.monitoring.drift.detection import detect_drift
from visionops.monitoring.drift.expansion import expand_records
from visionops.monitoring.features import describe_image
from visionops.monitoring.record import RECORD, record_of
from visionops.monitoring.settings import DriftSettings
from visionops.tasks.classification.drifting import MOST_CLASSES, probability_columns

TWO, THREE = Head(name="state", class_names=("ok", "bad")), Head(name="kind", class_names=("a", "b", "c"))


def table(*probabilities) -> pa.Table:
    return pa.Table.from_pylist([{"probabilities": values} for values in probabilities], schema=RECORD)


def test_of_two_classes_there_is_one_probability_and_of_three_all():
    found = probability_columns([TWO, THREE], table([0.25, 0.75, 0.5, 0.5, 0.0], None, [1.0]), is_single=False)
    assert {name: column.to_pylist() for name, column in found.items()} == {
        "probability:state=bad": [0.75, None, None],
        "entropy:state": [pytest.approx(0.811278), None, None],
        "probability:kind=a": [0.5, None, None],
        "probability:kind=b": [0.5, None, None],
        "probability:kind=c": [0.0, None, None],
        "entropy:kind": [1.0, None, None],
    }


def test_what_confidences_say_already_is_not_said_again():
    assert list(probability_columns([TWO], table([0.25, 0.75]), is_single=True)) == ["probability:bad"]
    judged = TWO.model_copy(update={"positive": "ok", "threshold": 0.3})
    assert list(probability_columns([judged], table([0.25, 0.75]), is_single=True)) == [
        "probability:ok",
        "entropy:class",
    ]


def test_of_many_classes_the_entropy_alone_is_compared():
    head = Head(name="kind", class_names=tuple(f"c{n}" for n in range(MOST_CLASSES + 1)))
    assert list(probability_columns([head], table([0.0] * MOST_CLASSES + [1.0]), is_single=True)) == ["entropy:class"]


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), max_size=6))
def test_entropy_is_scipys(rows):
    shares = [np.asarray(row) / sum(row) if sum(row) > 0 else np.array([1.0, 0, 0]) for row in rows]
    found = probability_columns([THREE], table(*(row.tolist() for row in shares)), is_single=True)["entropy:class"]
    assert found.to_pylist() == pytest.approx([entropy(row, base=2) for row in shares], abs=1e-5)


def test_a_model_that_becomes_unsure_drifts_by_it(tmp_path):
    bundle = make_label_bundle(tmp_path / "bundle")
    predictor = Predictor(bundle)

    def rows(spread, seed):
        rng = np.random.default_rng(seed)
        images = [filled(tuple(int(v) for v in 128 + rng.uniform(-spread, spread, 3))) for _ in range(80)]
        records = [record_of(predictor.predict(image), *describe_image(image)) for image in images]
        return pa.Table.from_pylist(records, schema=RECORD)

    before, after = expand_records([rows(120, 0), rows(20, 1)], bundle.card)
    report = detect_drift(before, after, DriftSettings())
    found = {column.name: column for column in report.columns if column.name.startswith(("probability:", "entropy:"))}
    assert found
    entropies = [column for name, column in found.items() if name.startswith("entropy:")]
    assert any(column.drifted and column.explain().startswith("entropy of") for column in entropies)


def test_a_detector_has_none_and_an_older_reference_without_them_is_said(tmp_path):
    detector = make_bundle(tmp_path / "a").card
    assert served_task(detector.task).derived_columns(detector, table([])) == {}
    card = make_label_bundle(tmp_path / "b").card
    classes = sum(len(head.class_names) for head in card.heads)
    old, new = table(*[[]] * 40), table(*[[1 / classes] * classes] * 40)
    text = detect_drift(*expand_records([old, new], card), DriftSettings()).explain()
    assert "Not in the reference, so not compared: probability of" in text
