"""Labels of the test split are scored with the serving engine and drawn, and errors name what cannot be scored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.bundles import CLASSES, encode, filled, make_label_bundle
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.errors import DataError
from visionops.evaluation.report import load_evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import Head
from visionops.inference.settings import EngineName
from visionops.tasks.classification.evaluation import evaluate_labels
from visionops.tasks.spec import task_for

Colour = tuple[int, int, int]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ORANGE: Colour = (250, 210, 0)  # red, and nearly green
ONE = (Attribute("class", CLASSES),)
STATE = Head(name="state", class_names=("ok", "defective"), positive="defective")
"""Head of `make_label_bundle`: defective where green is brighter than red."""
COLOUR = Head(name="colour", class_names=("x", "y", "z"))
"""Second head: x where green is brightest, y blue, z red."""
TWO = (Attribute("state", STATE.class_names, "defective"), Attribute("colour", COLOUR.class_names))


@pytest.fixture
def bundle(tmp_path):
    return make_label_bundle(tmp_path / "bundle")


@pytest.fixture
def two_heads(tmp_path):
    return make_label_bundle(tmp_path / "bundle", heads=(STATE, COLOUR))


def scoring_of(task: str = "classification", **sections: object) -> EvaluationPlan:
    data = {"source": {"kind": "folder", "path": "."}, "format": "folders"}
    small = {"evaluation": {"resamples": 100, "latency_images": 3}}
    return Config.model_validate({"name": "colours", "task": task, "data": data} | small | sections).scoring


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Return images of one colour each, with their labels: for each attribute a class name or None for each image."""

    def make(
        colours: Sequence[Colour],
        labels: Sequence[Sequence[str | None]],
        attributes: Sequence[Attribute] = ONE,
        split: str = "test",
    ) -> Dataset:
        paths = []
        for row, colour in enumerate(colours):
            path = tmp_path / f"{row:03d}.png"
            path.write_bytes(encode(filled(colour)))
            paths.append(str(path))
        n = len(colours)
        images = {
            "key": [Path(p).name for p in paths],
            "path": paths,
            "sha256": [f"{i:064x}" for i in range(n)],
            "split": [split] * n,
        }
        ids = {
            a.name: [None if name is None else a.class_names.index(name) for name in column]
            for a, column in zip(attributes, labels, strict=True)
        }
        return Dataset.from_columns("colours", (), images, {}, attributes=attributes, labels=ids)

    return make


# Classification


@pytest.mark.parametrize("engine", list(EngineName))
def test_a_classifier_that_is_always_right_scores_one(bundle, make_dataset, engine):
    dataset = make_dataset([RED, GREEN, BLUE, RED], [["red", "green", "blue", "red"]])
    scoring = scoring_of(serving={"engine": engine})
    evaluation = evaluate_labels(bundle, dataset, scoring, None)
    for name in task_for("classification").gate_metrics:
        assert evaluation.metrics[name] == pytest.approx(1), name
        assert len(evaluation.replicates[name]) == 100
    assert 0 < evaluation.metrics["latency_ms_p50"] <= evaluation.metrics["latency_ms_p95"]
    assert evaluation.metrics["ece"] == pytest.approx(1 - math.exp(8) / (math.exp(8) + 2), rel=1e-3)
    assert evaluation.headline == ("balanced_accuracy", "accuracy", "f1", "roc_auc")
    assert (evaluation.num_images, evaluation.engine, evaluation.precision) == (4, engine.value, "f32")
    assert evaluation.bundle_digest == bundle.digest
    assert evaluation.per_class["red"] == {"instances": 2, "precision": 1, "recall": 1, "f1": 1}


def test_mistakes_are_counted_by_class(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED, GREEN, GREEN, BLUE], [["red", "green", "red", "red"]])
    evaluation = evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    assert evaluation.metrics["accuracy"] == 0.5
    assert evaluation.metrics["balanced_accuracy"] == pytest.approx((1 / 3 + 1) / 2)
    assert evaluation.per_class["red"] == pytest.approx({"instances": 3, "precision": 1, "recall": 1 / 3, "f1": 0.5})
    assert evaluation.per_class["green"]["precision"] == 0.5
    assert evaluation.per_class["blue"]["instances"] == 0
    assert math.isnan(evaluation.per_class["blue"]["recall"])


def test_the_answer_is_the_one_the_threshold_gives(tmp_path, make_dataset):
    attributes = (Attribute("state", STATE.class_names, "defective"),)
    dataset = make_dataset([RED, ORANGE, GREEN], [["ok", "defective", "defective"]], attributes)
    results = {}
    for threshold in (None, 0.2):
        head = STATE.model_copy(update={"threshold": threshold})
        bundle = make_label_bundle(tmp_path / f"bundle-{threshold}", heads=(head,))
        results[threshold] = evaluate_labels(bundle, dataset, scoring_of(), None).metrics
    assert results[None]["accuracy"] == pytest.approx(2 / 3)
    assert results[0.2]["accuracy"] == 1
    assert results[0.2]["roc_auc"] == results[None]["roc_auc"] == 1
    assert results[None]["f1"] == pytest.approx(2 / 3)


def test_classes_are_matched_by_name_not_by_version(bundle, make_dataset):
    dataset = make_dataset([RED, BLUE], [["red", "blue"]], (Attribute("other", ("blue", "red")),))
    assert evaluate_labels(bundle, dataset, scoring_of(), None).metrics["accuracy"] == 1


def test_only_the_test_split_counts(bundle, make_dataset):
    dataset = make_dataset([RED, RED, GREEN], [["red", "blue", "green"]])
    dataset = dataset.replace_column("split", ["test", "train", "test"])
    evaluation = evaluate_labels(bundle, dataset, scoring_of(), None)
    assert evaluation.metrics["accuracy"] == 1
    assert evaluation.num_images == 2
    assert evaluation.test_fingerprint == dataset.take([0, 2]).fingerprint()


# Attributes


def test_attributes_are_scored_alone_and_together(two_heads, make_dataset):
    dataset = make_dataset([RED, GREEN, RED, GREEN], [["ok", "defective", "ok", "ok"], ["z", "x", "y", "x"]], TWO)
    evaluation = evaluate_labels(two_heads, dataset, scoring_of("attributes"), None)
    assert evaluation.per_class["state"]["accuracy"] == 0.75
    assert evaluation.per_class["colour"]["accuracy"] == 0.75
    assert evaluation.metrics["accuracy"] == 0.75
    assert evaluation.metrics["exact_match"] == 0.5
    assert evaluation.metrics["balanced_accuracy"] == pytest.approx(((2 / 3 + 1) / 2 + (1 + 0 + 1) / 3) / 2)
    assert evaluation.headline == ("accuracy", "balanced_accuracy", "exact_match")
    assert set(evaluation.replicates) == {*task_for("attributes").gate_metrics, "exact_match"}
    assert {"accuracy", "exact_match", "state.accuracy", "colour.f1"} <= set(evaluation.intervals)


def test_labels_that_are_not_known_are_left_out_of_their_attribute_alone(two_heads, make_dataset):
    dataset = make_dataset([RED, GREEN, RED], [["ok", None, "defective"], ["z", "x", None]], TWO)
    evaluation = evaluate_labels(two_heads, dataset, scoring_of("attributes"), None)
    assert evaluation.per_class["state"]["instances"] == 2
    assert evaluation.per_class["state"]["accuracy"] == 0.5
    assert evaluation.per_class["colour"]["accuracy"] == 1
    assert evaluation.metrics["exact_match"] == pytest.approx(2 / 3)
    assert evaluation.num_images == 3


def test_an_attribute_nobody_knows_stays_out_of_the_means(tmp_path, two_heads, make_dataset):
    dataset = make_dataset([RED, GREEN], [[None, None], ["z", "x"]], TWO)
    evaluation = evaluate_labels(two_heads, dataset, scoring_of("attributes"), tmp_path / "evaluation")
    assert evaluation.metrics["accuracy"] == 1
    assert math.isnan(evaluation.per_class["state"]["accuracy"])
    assert "state.accuracy" not in evaluation.intervals
    assert repr(load_evaluation(tmp_path / "evaluation")) == repr(evaluation)


def test_attributes_are_matched_by_name_not_by_place(two_heads, make_dataset):
    dataset = make_dataset([RED, GREEN], [["z", "x"], ["ok", "defective"]], TWO[::-1])
    evaluation = evaluate_labels(two_heads, dataset, scoring_of("attributes"), None)
    assert evaluation.metrics["exact_match"] == 1


# Intervals


def test_intervals_hold_the_figure_and_two_models_meet_the_same_draws(tmp_path, make_dataset):
    rng = np.random.default_rng(0)
    truth = rng.choice(CLASSES, 40)
    shown = [{"red": RED, "green": GREEN, "blue": BLUE}[c if rng.random() < 0.7 else "red"] for c in truth]
    dataset = make_dataset(shown, [truth.tolist()])
    scoring = scoring_of(evaluation={"resamples": 400, "latency_images": 1, "worst_images": 0})
    first, second = (
        evaluate_labels(make_label_bundle(tmp_path / str(gain), gain=gain), dataset, scoring, None)
        for gain in (8.0, 3.0)
    )
    low, high = first.intervals["accuracy"]
    assert low < first.metrics["accuracy"] < high
    wanted = math.sqrt(first.metrics["accuracy"] * (1 - first.metrics["accuracy"]) / 40)
    assert (high - low) / 2 == pytest.approx(1.96 * wanted, rel=0.15)
    assert first.replicates["accuracy"] == second.replicates["accuracy"]  # another gain, the same answers
    assert first.bundle_digest != second.bundle_digest


def test_without_resamples_there_are_no_intervals(tmp_path, bundle, make_dataset):
    scoring = scoring_of(evaluation={"resamples": 0, "latency_images": 1}, gate={"confidence": 0})
    dataset = make_dataset([RED, GREEN], [["red", "green"]])
    evaluation = evaluate_labels(bundle, dataset, scoring, tmp_path / "evaluation")
    assert (evaluation.intervals, evaluation.replicates) == ({}, {})
    assert "confidence interval" not in (tmp_path / "evaluation" / "report.html").read_text()


# Errors


def test_an_empty_test_split_is_refused(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED], [["red"]], split="train")
    with pytest.raises(DataError, match="colours: the test split has no images"):
        evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_a_test_split_without_labels_is_refused(tmp_path, bundle, make_dataset):
    with pytest.raises(DataError, match="colours: the test split has no labels"):
        evaluate_labels(bundle, make_dataset([RED], [[None]]), scoring_of(), tmp_path / "evaluation")


def test_a_class_that_the_bundle_does_not_know_is_refused(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED], [["red"]], (Attribute("class", (*CLASSES, "violet")),))
    with pytest.raises(DataError, match="does not know violet; train it again"):
        evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ((*TWO, Attribute("size", ("s", "l"))), "does not know size; train it again"),
        ((TWO[0],), "has attributes that the data set does not have: colour; train it again"),
        ((), "has attributes that the data set does not have: colour, state"),
    ],
)
def test_questions_that_differ_are_refused(tmp_path, two_heads, make_dataset, attributes, words):
    dataset = make_dataset([RED], [[None]] * len(attributes), attributes)
    with pytest.raises(DataError, match=words):
        evaluate_labels(two_heads, dataset, scoring_of("attributes"), tmp_path / "evaluation")


def test_a_gate_that_the_test_split_cannot_judge_is_refused(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED, RED], [["red", "red"]])
    with pytest.raises(DataError, match=r"roc_auc is not defined on the test split.*choose another gate\.metric"):
        evaluate_labels(bundle, dataset, scoring_of(gate={"metric": "roc_auc"}), tmp_path / "evaluation")
    evaluation = evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    assert "roc_auc" not in evaluation.metrics
    assert evaluation.headline == ("balanced_accuracy", "accuracy", "f1")


def test_a_missing_or_damaged_image_is_named(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED, GREEN], [["red", "green"]])
    dataset.paths()[1].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"001\.png: not a readable image"):
        evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    dataset.paths()[1].unlink()
    with pytest.raises(DataError, match=r"001\.png: test image cannot be read \(No such file"):
        evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, bundle, make_dataset):
    (tmp_path / "evaluation").write_text("a file")
    with pytest.raises(DataError, match=r"evaluation: the evaluation cannot be written \(File exists\)"):
        evaluate_labels(bundle, make_dataset([RED], [["red"]]), scoring_of(), tmp_path / "evaluation")


# Report


def test_it_reads_back_as_it_was_and_is_strict_json(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED, GREEN, GREEN], [["red", "green", "red"]])
    evaluation = evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    assert any(math.isnan(v) for v in evaluation.replicates["roc_auc"])  # a resample may lack a class
    assert repr(load_evaluation(tmp_path / "evaluation")) == repr(evaluation)

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((tmp_path / "evaluation" / "evaluation.json").read_text(), parse_constant=refuse)


def captions(folder: Path) -> list[tuple[str, str]]:
    return re.findall(r"<b>(\d+\.png)</b><br>([^<]*)<", (folder / "report.html").read_text())


def test_the_most_confidently_wrong_comes_first_with_truth_and_probabilities(tmp_path, bundle, make_dataset):
    shown = [RED, ORANGE, GREEN, BLUE]
    evaluate_labels(
        bundle, make_dataset(shown, [["red", "green", "blue", "blue"]]), scoring_of(), tmp_path / "evaluation"
    )
    assert captions(tmp_path / "evaluation") == [
        ("002.png", "said green 1.00, is blue 0.00; all: green 1.00, red 0.00, blue 0.00"),
        ("001.png", "said red 0.78, is green 0.22; all: red 0.78, green 0.22, blue 0.00"),
        ("000.png", "is red 1.00, green 0.00, blue 0.00"),
        ("003.png", "is blue 1.00, red 0.00, green 0.00"),
    ]


def test_mistakes_of_attributes_are_named(tmp_path, two_heads, make_dataset):
    dataset = make_dataset([RED, GREEN, BLUE], [["defective", "defective", None], ["x", "x", None]], TWO)
    evaluate_labels(two_heads, dataset, scoring_of("attributes"), tmp_path / "evaluation")
    assert captions(tmp_path / "evaluation") == [
        ("000.png", "colour: said z 1.00, is x 0.00; state: said ok 1.00, is defective 0.00"),
        ("001.png", "all 2 right, the least sure with 1.00"),
    ]


def test_the_pictures_lie_beside_it_and_in_it(tmp_path, two_heads, make_dataset):
    dataset = make_dataset([RED, GREEN, RED], [["ok", "defective", "defective"], ["z", "x", "z"]], TWO)
    evaluate_labels(two_heads, dataset, scoring_of("attributes"), tmp_path / "evaluation")
    charts = {"confusion_matrix", "per_attribute", "roc_curves", "pr_curves", "reliability", "scores"}
    names = {f"{chart}.png" for chart in charts} | {"worst_00.jpg", "best_00.jpg", "best_01.jpg"}
    folder = tmp_path / "evaluation"
    assert {p.name for p in folder.iterdir()} == names | {"evaluation.json", "report.html"}
    for name in names:
        with Image.open(folder / name) as image:
            assert min(image.size) > 100
    html = (folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) == len(names)
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in html
    assert "colours: accuracy 0.833 on 3 test images" in html


def test_an_example_shows_the_image_and_what_spoke_for_the_answer(tmp_path, bundle, make_dataset):
    dataset = make_dataset([RED], [["blue"]])
    image = np.zeros((64, 64, 3), np.uint8)
    image[:16, 48:] = RED
    dataset.paths()[0].write_bytes(encode(image))
    evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    sheet = np.asarray(Image.open(tmp_path / "evaluation" / "worst_00.jpg").convert("RGB")).astype(int)
    side = (sheet.shape[1] - 6) // 2
    image_panel, saliency = sheet[-side:, :side], sheet[-side:, -side:]
    corner = (slice(20, side // 4 - 20), slice(-side // 4 + 20, -20))
    assert image_panel[corner][..., 0].mean() > 200
    assert np.ptp(saliency, axis=2)[corner].mean() > 60
    assert np.ptp(saliency, axis=2)[side // 2 :, : side // 2].mean() < 20


def test_no_more_worst_images_than_requested(tmp_path, bundle, make_dataset):
    scoring = scoring_of(evaluation={"resamples": 0, "worst_images": 1, "latency_images": 1}, gate={"confidence": 0})
    evaluate_labels(bundle, make_dataset([RED, RED], [["blue", "green"]]), scoring, tmp_path / "evaluation")
    assert len(list((tmp_path / "evaluation").glob("worst_*"))) == 1


def test_without_a_gallery_no_image_is_drawn(tmp_path, bundle, make_dataset):
    scoring = scoring_of(evaluation={"resamples": 0, "worst_images": 0, "latency_images": 1}, gate={"confidence": 0})
    evaluate_labels(bundle, make_dataset([RED, RED], [["blue", "red"]]), scoring, tmp_path / "evaluation")
    assert not list((tmp_path / "evaluation").glob("*.jpg"))
    assert "evaluation.worst_images is 0" in (tmp_path / "evaluation" / "report.html").read_text()


def test_without_a_mistake_the_report_says_so(tmp_path, bundle, make_dataset):
    evaluate_labels(bundle, make_dataset([RED, GREEN], [["red", "green"]]), scoring_of(), tmp_path / "evaluation")
    html = (tmp_path / "evaluation" / "report.html").read_text()
    assert "None: every image was answered correctly." in html
    assert "balanced accuracy" in html


def test_names_are_escaped(tmp_path, make_dataset):
    names = ("<b>red</b>", "$x_", "blue")
    bundle = make_label_bundle(tmp_path / "bundle", heads=(Head(name="class", class_names=names),))
    dataset = make_dataset([RED, GREEN], [["<b>red</b>", "blue"]], (Attribute("class", names),))
    evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    html = (tmp_path / "evaluation" / "report.html").read_text()
    assert "<b>red</b>" not in html
    assert "&lt;b&gt;red&lt;/b&gt;" in html


def test_more_classes_than_a_legend_holds_still_draw(tmp_path, make_dataset):
    names = tuple(f"class {i}" for i in range(30))
    bundle = make_label_bundle(tmp_path / "bundle", heads=(Head(name="class", class_names=names),))
    dataset = make_dataset([RED, GREEN], [["class 0", "class 20"]], (Attribute("class", names),))
    evaluation = evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    assert evaluation.metrics["accuracy"] == 0.5


@pytest.mark.real_data
def test_real_photos_are_scored_and_explained(tmp_path, real_data):
    photos = sorted((real_data / "plants").glob("*/*"))[:3] + sorted((real_data / "casting" / "test").glob("*/*"))[:3]
    images = {"key": [p.name for p in photos], "path": [str(p) for p in photos], "split": ["test"] * 6}
    attributes = (Attribute("what", ("plant", "part"), "part"),)
    labels = {"what": [0] * 3 + [1] * 3}
    dataset = Dataset.from_columns("photos", (), images, {}, attributes=attributes, labels=labels)
    head = Head(name="what", class_names=("plant", "part"), positive="part")
    bundle = make_label_bundle(tmp_path / "bundle", heads=(head,), size=64)
    evaluation = evaluate_labels(bundle, dataset, scoring_of(), tmp_path / "evaluation")
    right = round(evaluation.metrics["accuracy"] * 6)
    pictures = {path.stem for path in (tmp_path / "evaluation").glob("*.jpg")}
    assert pictures == {f"worst_{i:02d}" for i in range(6 - right)} | {f"best_{i:02d}" for i in range(min(right, 4))}
