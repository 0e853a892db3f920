"""The test split is scored with the serving engine, and errors name what cannot be scored."""

from __future__ import annotations

import math

import pytest

from tests.helpers.bundles import CLASSES, make_bundle
from visionops.data.dataset import Dataset
from visionops.errors import DataError
from visionops.inference.bundle import Thresholds
from visionops.inference.preprocessing_spec import Tiling
from visionops.inference.settings import EngineName
from visionops.tasks.detection.evaluation import evaluate

SCENES = [
    [("red", 0, 0), ("green", 2, 2)],
    [("red", 3, 1)],
    [("green", 1, 1), ("red", 2, 3)],
    [],
]


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("engine", list(EngineName))
def test_a_detector_that_is_always_right_scores_one(bundle, make_dataset, scoring, engine):
    scoring = scoring.model_copy(update={"serving": scoring.serving.model_copy(update={"engine": engine})})
    evaluation = evaluate(bundle, make_dataset(SCENES), scoring, None)
    for name in ("map50", "map50_95", "precision", "recall", "f1", "serving_precision", "serving_recall"):
        assert evaluation.metrics[name] == pytest.approx(1), name
    assert 0 < evaluation.metrics["latency_ms_p50"] <= evaluation.metrics["latency_ms_p95"]
    assert evaluation.num_images == 4
    assert (evaluation.engine, evaluation.precision) == (engine.value, "f32")
    assert evaluation.bundle_digest == bundle.digest
    assert evaluation.per_class["red"] == pytest.approx(
        {"map50": 1, "map50_95": 1, "precision": 1, "recall": 1, "instances": 3}
    )


def test_what_serving_cuts_into_tiles_is_scored_in_tiles(tmp_path, make_dataset, scoring):
    """Cells of half the size that the model detects, unless it gets quarters of the image."""
    dataset = make_dataset(SCENES)
    tiled, whole = (make_bundle(tmp_path / str(t), size=64, tiles=t) for t in (Tiling(size=64, overlap=32), None))
    metrics = evaluate(tiled, dataset, scoring, None).metrics
    assert metrics["map50_95"] == metrics["serving_recall"] == metrics["serving_precision"] == pytest.approx(1)
    assert evaluate(whole, dataset, scoring, None).metrics["serving_recall"] == 0


def test_no_more_detections_count_than_the_bundle_lets_the_server_answer(tmp_path, make_dataset, scoring):
    bundle = make_bundle(tmp_path / "bundle", thresholds=Thresholds(max_detections=1))
    metrics = evaluate(bundle, make_dataset([[("red", 0, 0), ("red", 3, 3)]]), scoring, None).metrics
    assert metrics["serving_recall"] == metrics["recall"] == 0.5


def test_a_class_without_instances_stays_out_of_the_mean(tmp_path, bundle, make_dataset, scoring):
    evaluation = evaluate(bundle, make_dataset(SCENES), scoring, tmp_path / "evaluation")
    assert evaluation.per_class["blue"]["instances"] == 0
    assert math.isnan(evaluation.per_class["blue"]["map50"])
    assert evaluation.metrics["map50"] == pytest.approx(1)


def test_mistakes_are_counted_at_the_serving_threshold(bundle, make_dataset, scoring):
    labelled = [[("red", 0, 0)], [("red", 3, 1), ("red", 0, 3)], [("red", 1, 1), ("red", 2, 3)], []]
    evaluation = evaluate(bundle, make_dataset(SCENES, labelled), scoring, None)
    # Five detections; correct are red 0,0, red 3,1 and red 2,3, of five labelled boxes.
    assert evaluation.metrics["serving_precision"] == pytest.approx(3 / 5)
    assert evaluation.metrics["serving_recall"] == pytest.approx(3 / 5)


def test_classes_are_matched_by_name_not_by_version(bundle, make_dataset, scoring):
    dataset = make_dataset(SCENES, classes=("green", "red"))
    assert evaluate(bundle, dataset, scoring, None).metrics["map50"] == pytest.approx(1)


def test_only_the_test_split_counts(bundle, make_dataset, scoring):
    dataset = make_dataset(SCENES).replace_column("split", ["test", "train", "val", "test"])
    evaluation = evaluate(bundle, dataset, scoring, None)
    assert evaluation.num_images == 2
    assert evaluation.test_fingerprint == dataset.take([0, 3]).fingerprint()


def test_an_empty_test_split_is_refused(tmp_path, bundle, make_dataset, scoring):
    with pytest.raises(DataError, match="cells: the test split has no images"):
        evaluate(bundle, make_dataset(SCENES, split="train"), scoring, tmp_path / "evaluation")
    assert not (tmp_path / "evaluation").exists()


def test_a_test_split_without_boxes_is_refused(tmp_path, bundle, make_dataset, scoring):
    with pytest.raises(DataError, match="the test split has no boxes"):
        evaluate(bundle, make_dataset([[], []]), scoring, tmp_path / "evaluation")


def test_a_class_that_the_bundle_does_not_know_is_refused(tmp_path, bundle, make_dataset, scoring):
    dataset = make_dataset(SCENES, classes=(*CLASSES, "violet"))
    with pytest.raises(DataError, match="does not know violet"):
        evaluate(bundle, dataset, scoring, tmp_path / "evaluation")


def test_a_missing_image_is_named(tmp_path, bundle, make_dataset, scoring):
    dataset = make_dataset(SCENES)
    dataset.paths()[2].unlink()
    with pytest.raises(DataError, match=r"002\.png: test image cannot be read \(No such file"):
        evaluate(bundle, dataset, scoring, tmp_path / "evaluation")


def test_a_damaged_image_is_named(tmp_path, bundle, make_dataset, scoring):
    dataset = make_dataset(SCENES)
    dataset.paths()[1].write_bytes(dataset.paths()[1].read_bytes()[:60])
    with pytest.raises(DataError, match=r"001\.png"):
        evaluate(bundle, dataset, scoring, tmp_path / "evaluation")


def test_nothing_detected_scores_zero(tmp_path, make_dataset, scoring):
    blind = make_bundle(tmp_path / "blind", class_names=("violet", "cyan", "pink", *CLASSES))
    dataset: Dataset = make_dataset(SCENES)
    dataset = dataset.with_boxes(dataset.boxes, CLASSES)
    scoring = scoring.model_copy(update={"serving": scoring.serving.model_copy(update={"confidence": 1.0})})
    evaluation = evaluate(blind, dataset, scoring, tmp_path / "evaluation")
    assert evaluation.metrics["map50"] == 0
    assert evaluation.metrics["serving_precision"] == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path, bundle, make_dataset, scoring):
    (tmp_path / "evaluation").write_text("a file")
    with pytest.raises(DataError, match=r"evaluation: the evaluation cannot be written \(File exists\)"):
        evaluate(bundle, make_dataset(SCENES), scoring, tmp_path / "evaluation")


def test_an_earlier_evaluation_leaves_no_pictures_behind(tmp_path, bundle, make_dataset, scoring):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "worst_07.jpg").write_bytes(b"old")
    evaluate(bundle, make_dataset(SCENES), scoring, tmp_path / "evaluation")
    assert not list((tmp_path / "evaluation").glob("worst_*"))


def test_a_later_evaluation_leaves_the_files_of_an_earlier_artifact_alone(tmp_path, bundle, make_dataset, scoring):
    folder, artifact = tmp_path / "evaluation", tmp_path / "artifact.json"
    evaluate(bundle, make_dataset(SCENES), scoring, folder)
    artifact.hardlink_to(folder / "evaluation.json")
    before = artifact.read_bytes()
    evaluate(bundle, make_dataset(SCENES[:1]), scoring, folder)
    assert artifact.read_bytes() == before
    assert (folder / "evaluation.json").read_bytes() != before
