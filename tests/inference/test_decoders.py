"""Labels from logits: temperature, threshold, names and counted labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.bundles import CLASSES, encode, filled, make_bundle, make_label_bundle
from visionops.errors import BundleError, OptionError
from visionops.inference.bundle import Decode, Head, ModelBundle, Thresholds
from visionops.inference.decoders import RawOutput, decoder_for
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import Geometry
from visionops.inference.settings import EngineName
from visionops.tasks.classification.calibration import choose_threshold
from visionops.tasks.classification.decoder import LabelDecoder, softmax
from visionops.tasks.classification.prediction import Answer, LabelPrediction
from visionops.tasks.classification.settings import ThresholdGoal
from visionops.tasks.detection.decoder import BoxDecoder, _decode_boxes

GEOMETRY = Geometry(1, 1, 0, 0, 40, 30)
STATE = Head(name="state", class_names=("ok", "defective"), positive="defective")
SIZE = Head(name="size", class_names=("s", "m", "l"))


def decode(folder, heads: Sequence[Head], logits: Sequence[float]) -> LabelPrediction:
    """Return the prediction of a card with these heads for one row of logits."""
    decoder = LabelDecoder(make_label_bundle(folder / "bundle", heads=heads).card, is_single=len(heads) == 1)
    return decoder.decode([RawOutput([np.array([logits], np.float32)], GEOMETRY)], {})


# Softmax


def test_softmax_by_hand():
    p = softmax(np.array([math.log(1), math.log(2), math.log(5)]))
    assert p == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert p.dtype == np.float32


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=9))
def test_softmax_of_any_logits_is_a_distribution(logits):
    p = softmax(np.array(logits, dtype=np.float32))
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert p[int(np.argmax(logits))] == p.max()


# Answers


def test_each_head_takes_its_own_columns(tmp_path):
    prediction = decode(tmp_path, (STATE, SIZE), [0, 2, 5, 1, 0])
    assert [a.class_name for a in prediction.answers] == ["defective", "s"]
    assert [len(a.probabilities) for a in prediction.answers] == [2, 3]
    assert prediction.answers[0].confidence == pytest.approx(1 / (1 + math.exp(-2)))
    assert (prediction.width, prediction.height) == (40, 30)


def test_a_temperature_divides_the_logits(tmp_path):
    hot = STATE.model_copy(update={"temperature": 4.0})
    assert decode(tmp_path, (hot,), [0, 2]).answers[0].confidence == pytest.approx(1 / (1 + math.exp(-0.5)))


@pytest.mark.parametrize(
    ("threshold", "answer"),
    [(None, "ok"), (0.5, "ok"), (0.26, "ok"), (0.25, "defective"), (0.0, "defective"), (1.0, "ok")],
)
def test_a_threshold_is_on_the_positive_class_and_belongs_to_it(threshold, answer):
    head = STATE.model_copy(update={"threshold": threshold})
    said = Answer(head, np.array([0.75, 0.25], np.float32))
    assert said.class_name == answer
    assert said.confidence == (0.75 if answer == "ok" else 0.25)


def half_way(below: float) -> tuple[np.float32, np.float32, float]:
    """Return two adjacent float32 numbers, and the float64 number midway between them."""
    low = np.float32(below)
    high = np.nextafter(low, np.float32(1))
    return low, high, (float(low) + float(high)) / 2


@given(below=st.floats(0.0009765625, 0.9999998807907104, width=32))
def test_a_threshold_tells_neighbouring_probabilities_apart(below):
    low, high, threshold = half_way(below)
    head = STATE.model_copy(update={"threshold": threshold})
    said = [Answer(head, np.array([1 - p, p], np.float32)).class_name for p in (low, high)]
    assert said == ["ok", "defective"]


@given(
    below=st.floats(0.0009765625, 0.9999998807907104, width=32),
    end2end=st.booleans(),
    multi_label=st.booleans(),
)
def test_a_confidence_tells_neighbouring_scores_apart(below, end2end, multi_label):
    low, high, confidence = half_way(below)
    corners = [[0, 0, 10, 10], [50, 50, 60, 60]]
    if end2end:
        raw = np.array([[*xyxy, score, 0] for xyxy, score in zip(corners, (low, high), strict=True)], np.float32)
    else:
        raw = np.array([[5, 5, 10, 10, low, 0], [55, 55, 10, 10, high, 0]], np.float32).T
    decode = Decode.YOLO_END2END if end2end else Decode.YOLO
    xyxy, scores, _ = _decode_boxes(raw[None], decode, Thresholds(confidence=confidence), multi_label=multi_label)
    assert (xyxy.tolist(), scores.tolist()) == ([corners[1]], [high])


@given(below=st.floats(0.0009765625, 0.9999998807907104, width=32))
def test_a_threshold_chosen_between_two_probabilities_answers_both_rightly(below):
    low, high, _ = half_way(below)
    probabilities = np.array([low, high], np.float32)
    threshold = choose_threshold(probabilities, np.array([False, True]), ThresholdGoal(metric="f1"), "state")
    head = STATE.model_copy(update={"threshold": threshold})
    assert [Answer(head, np.array([1 - p, p], np.float32)).class_id for p in probabilities] == [0, 1]


def test_a_positive_class_may_be_the_first(tmp_path):
    head = Head(name="state", class_names=("defective", "ok"), positive="defective", threshold=0.1)
    assert decode(tmp_path, (head,), [0, 1]).answers[0].class_name == "defective"


def test_a_classification_answers_by_itself_and_attributes_by_name(tmp_path):
    one = decode(tmp_path / "one", (STATE,), [1, 0]).to_dict()
    assert set(one) == {"classification"}
    assert one["classification"]["class_name"] == "ok"
    assert one["classification"]["probabilities"] == {"ok": 0.731059, "defective": 0.268941}
    both = decode(tmp_path / "two", (STATE, SIZE), [1, 0, 0, 0, 1]).to_dict()
    assert {name: a["class_id"] for name, a in both["attributes"].items()} == {"state": 0, "size": 2}


def test_labels_are_named_as_the_card_names_them(tmp_path):
    for heads, logits in (((STATE,), [1, 0]), ((STATE, SIZE), [1, 0, 0, 0, 1])):
        bundle = make_label_bundle(tmp_path / str(len(heads)), heads=heads)
        decoder = LabelDecoder(bundle.card, is_single=len(heads) == 1)
        prediction = decoder.decode([RawOutput([np.array([logits], np.float32)], GEOMETRY)], {})
        labels = prediction.labels()
        assert len(labels) == len(heads)
        assert {name for name, _ in labels} <= set(bundle.card.class_names)


def test_support_is_what_another_answer_gives_to_ours(tmp_path):
    ours = decode(tmp_path / "a", (STATE, SIZE), [0, 3, 5, 0, 0])
    theirs = decode(tmp_path / "b", (STATE, SIZE), [0, 0, 0, 0, 0])
    assert ours.support(theirs) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert ours.support(ours) == pytest.approx(np.mean([a.confidence for a in ours.answers]))


def test_answers_of_two_tasks_do_not_support_each_other(tmp_path):
    boxes = Predictor(make_bundle(tmp_path / "boxes")).predict(filled((255, 0, 0), width=128, height=128))
    labels = decode(tmp_path, (STATE,), [0, 1])
    assert labels.support(boxes) == 0
    assert boxes.support(labels) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_a_problem(tmp_path, value):
    with np.errstate(invalid="ignore"):
        prediction = decode(tmp_path, (STATE,), [0, value])
    assert prediction.problem() == "probabilities are not finite numbers"
    assert decode(tmp_path, (STATE,), [0, 1]).problem() == ""


# Options


@pytest.mark.parametrize("options", [{"confidence": 0.5}, {"iou": 0.5}, {"threshold": 0.5}])
def test_labels_take_no_options(tmp_path, options):
    predictor = Predictor(make_label_bundle(tmp_path / "bundle"))
    with pytest.raises(OptionError, match=f"^{next(iter(options))}: a model of labels .*remove the option"):
        predictor.predict(filled((255, 0, 0)), options)


def test_a_detector_names_the_options_it_takes(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "bundle"))
    with pytest.raises(OptionError, match=r"^threshold: unknown option of a detector; expected confidence or iou"):
        predictor.predict(filled((255, 0, 0)), {"confidence": 0.5, "threshold": 0.5})


def test_the_card_chooses_the_decoder(tmp_path):
    assert isinstance(decoder_for(make_bundle(tmp_path / "a").card, Thresholds()), BoxDecoder)
    assert isinstance(decoder_for(make_label_bundle(tmp_path / "b").card, Thresholds()), LabelDecoder)


# Through the engines


@pytest.mark.parametrize("engine", list(EngineName))
def test_the_mean_colour_is_returned_with_its_embedding(tmp_path, engine):
    predictor = Predictor(
        make_label_bundle(tmp_path / "bundle", heads=(Head(name="colour", class_names=CLASSES), SIZE))
    )
    prediction = predictor.predict(encode(filled((0, 51, 255), width=70, height=9)))
    first, second = prediction.answers
    assert (first.class_name, second.class_name) == ("blue", "m")  # the second head is shifted by one channel
    expected = np.exp(8 * np.array([0, 0.2, 1]))
    np.testing.assert_allclose(first.probabilities, expected / expected.sum(), rtol=1e-4)
    np.testing.assert_allclose(prediction.embedding, [0, 0.2, 1], atol=1e-6)
    assert (prediction.width, prediction.height) == (70, 9)


def test_a_graph_without_embedding_answers(tmp_path):
    prediction = Predictor(make_label_bundle(tmp_path / "bundle", has_embedding=False)).predict(filled((255, 0, 0)))
    assert prediction.answers[0].class_name == "red"
    assert prediction.embedding.shape == (0,)


@pytest.mark.parametrize("engine", list(EngineName))
def test_a_graph_of_another_number_of_classes_is_refused_at_load(tmp_path, engine):
    bundle = make_label_bundle(tmp_path / "bundle", graph_classes=4)
    with pytest.raises(BundleError, match=r"outputs \(1, 4\), but the card \(3 classes, logits\) expects \(1, 3\)"):
        Predictor(bundle, engine)


def test_a_graph_that_gives_no_numbers_is_disproved(tmp_path):
    bundle = make_label_bundle(tmp_path / "bundle")
    model = onnx.load(bundle.model_path)
    weight = onnx.numpy_helper.from_array(np.full((3, 3), np.nan, np.float32), "weight")
    model.graph.initializer[0].CopyFrom(weight)
    onnx.save(model, bundle.model_path)
    predictor = Predictor(ModelBundle.create(bundle.folder, bundle.card))
    with pytest.raises(BundleError, match="smoke: probabilities are not finite numbers; train or export again"):
        predictor.prove(filled((255, 0, 0)), "smoke")
    Predictor(make_label_bundle(tmp_path / "good")).prove(filled((255, 0, 0)), "smoke")
