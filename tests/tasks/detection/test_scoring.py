"""Scores equal pycocotools' own, and avoid its pitfalls."""

from __future__ import annotations

import contextlib
import io
import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.data.layers import Boxes
from visionops.evaluation.resampling import resample
from visionops.tasks.detection import scoring
from visionops.tasks.detection.prediction import BoxPrediction
from visionops.tasks.detection.scoring import CONFIDENCES, CURVE_METRICS, score

K = 5
NAMES = tuple("abcde")


def boxes(rows) -> Boxes:
    """Return boxes of (class, x1, y1, x2, y2) rows."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Boxes(table[:, 1:], table[:, 0].astype(np.int32))


def prediction(rows) -> BoxPrediction:
    """Return a prediction of (score, class, x1, y1, x2, y2) rows, best first."""
    table = np.array(sorted(rows, key=lambda r: -r[0]), dtype=np.float32).reshape(-1, 6)
    return BoxPrediction(100, 100, table[:, 2:], table[:, 0], table[:, 1].astype(np.int32), NAMES)


def random_case(seed: int):
    """Return 30 images; some without boxes, some without detections; class 3 is never true, class 4 never detected."""
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for _ in range(30):
        n = int(rng.integers(0, 6))
        corner, size = rng.random((n, 2)) * 70, 5 + rng.random((n, 2)) * 25
        class_ids = rng.choice([0, 1, 2, 4], n)
        truth.append(boxes(np.column_stack([class_ids, corner, corner + size])))
        rows = []
        for k, (x, y), (w, h) in zip(class_ids, corner, size, strict=True):
            for _ in range(rng.integers(0, 3)):
                dx, dy = rng.normal(0, 3, 2)
                rows.append((rng.random(), k if rng.random() < 0.8 else 3, x + dx, y + dy, x + dx + w, y + dy + h))
        rows += [(rng.random(), rng.integers(0, 4), x, y, x + 20, y + 20) for x, y in rng.random((2, 2)) * 70]
        predictions.append(prediction([r for r in rows if r[1] != 4] if rng.random() < 0.9 else []))
    return truth, predictions


def crowded_case(seed: int, images: int = 3):
    """Return over 100 boxes and detections of class 0 on each image, some of class 1; weak ones are right as often."""
    rng = np.random.default_rng(seed)
    truth, predictions = [], []
    for _ in range(images):
        n = int(rng.integers(105, 120))
        corner = np.stack(np.unravel_index(rng.permutation(144)[:n], (12, 12)), axis=1) * 8.0
        class_ids = (rng.random(n) < 0.04).astype(int)
        truth.append(boxes(np.column_stack([class_ids, corner, corner + 6])))
        moved = corner + rng.normal(0, 0.7, (n, 2))
        rows = [(rng.random(), k, x, y, x + 6, y + 6) for k, (x, y) in zip(class_ids, moved, strict=True)]
        rows += [(rng.random(), 0, x, y, x + 6, y + 6) for x, y in rng.random((20, 2)) * 90]
        predictions.append(prediction(rows))
    return truth, predictions


def reference(truth, predictions, folder, max_detections=(1, 10, 100)):
    """Return AP per class at 0.5 and 0.50:0.95 from JSON files, as in the library's demo; -1 without instances."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {"image_id": i, "category_id": int(k) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for i, t in enumerate(truth, 1)
        for k, (x1, y1, x2, y2) in zip(t.class_ids, t.xyxy.tolist(), strict=True)
    ]
    for number, annotation in enumerate(annotations, 1):
        annotation |= {"id": number, "area": annotation["bbox"][2] * annotation["bbox"][3]}
    images = [{"id": i, "width": 100, "height": 100} for i in range(1, len(truth) + 1)]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    results = [
        {"image_id": i, "category_id": int(k) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(s)}
        for i, p in enumerate(predictions, 1)
        for k, s, (x1, y1, x2, y2) in zip(p.class_ids, p.scores, p.boxes.tolist(), strict=True)
    ]
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluator = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluator.params.maxDets = list(max_detections)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@pytest.mark.parametrize(("case", "seed"), [*((random_case, seed) for seed in range(5)), (crowded_case, 0)])
def test_average_precision_equals_an_independent_run(tmp_path, capsys, case, seed):
    truth, predictions = case(seed)
    scores = score(truth, predictions, K)
    assert capsys.readouterr().out == ""
    expected = reference(truth, predictions, tmp_path)
    assert np.nanmean(scores.ap50_95) == pytest.approx(expected.stats[0], abs=1e-6)
    assert np.nanmean(scores.ap50) == pytest.approx(expected.stats[1], abs=1e-6)
    assert np.nanmean(scores.average_recall) == pytest.approx(expected.stats[8], abs=1e-6)
    per_class = expected.eval["precision"][0, :, :, 0, 2].mean(axis=0)
    np.testing.assert_allclose(np.nan_to_num(scores.ap50, nan=-1), per_class, atol=1e-6)
    assert np.isnan(scores.ap50[3])
    assert case is crowded_case or scores.ap50[4] == 0


@pytest.mark.parametrize("confidence", [0.0, 0.1, 0.6])
def test_the_curves_count_more_than_a_hundred_detections_of_a_class(tmp_path, confidence):
    truth, predictions = crowded_case(1, images=2)
    assert min(np.bincount(p.class_ids)[0] for p in predictions) > 100
    scores = score(truth, predictions, K)
    at = int(np.searchsorted(CONFIDENCES, confidence))
    above = [prediction([r for r in rows_of(p) if r[0] > confidence]) for p in predictions]
    expected = reference(truth, above, tmp_path, max_detections=(1, 100, 1000)).eval["recall"][0, :, 0]
    assert scores.recall[:2, at] == pytest.approx(expected[:2, 2])
    found = expected[:2, 2] * scores.instances[:2]
    answered = [sum((p.class_ids == k).sum() for p in above) for k in range(2)]
    assert scores.precision[:2, at] == pytest.approx(found / answered)
    if not confidence:
        assert scores.recall[0, at] > expected[0, 1] + 0.05  # with the same detections, COCO's 100 find less


def rows_of(p: BoxPrediction):
    return np.column_stack([p.scores, p.class_ids, p.boxes]).tolist()


def test_two_hundred_parts_all_found_have_a_recall_of_one_and_the_map_of_the_first_hundred():
    corner = np.stack(np.unravel_index(np.arange(200), (20, 10)), axis=1) * 5.0
    found = np.column_stack([np.full(200, 0.9), np.zeros(200), corner, corner + 4])
    scores = score([boxes(found[:, 1:])], [prediction(found.tolist())], 1, 3)
    assert scores.means == {"precision": 1, "recall": 1, "f1": 1}
    assert [scores.replicates[name].tolist() for name in CURVE_METRICS] == [[1, 1, 1]] * 3
    assert scores.ap50[0] == pytest.approx(51 / 101)  # a precision of 1 at the recall points up to one half
    assert scores.average_recall[0] == 0.5


def test_no_detections_at_all_score_zero():
    truth, _ = random_case(0)
    scores = score(truth, [prediction([])] * len(truth), K)
    assert np.nanmean(scores.ap50) == 0
    assert scores.recall.max() == 0
    assert np.isfinite(scores.f1).all()


def test_perfect_detections_score_one():
    truth = [boxes([(0, 0, 0, 10, 10), (1, 20, 20, 40, 40)]), boxes([])]
    scores = score(truth, [prediction([(0.9, 0, 0, 0, 10, 10), (0.6, 1, 20, 20, 40, 40)]), prediction([])], K)
    assert scores.ap50[:2].tolist() == pytest.approx([1, 1])
    assert scores.instances.tolist() == [1, 1, 0, 0, 0]
    assert scores.present.tolist() == [0, 1]


def test_precision_and_recall_over_confidence_by_hand():
    # One class, three boxes; detections: correct 0.9, wrong 0.8, correct 0.4.
    truth = [boxes([(0, 0, 0, 10, 10), (0, 20, 0, 30, 10), (0, 40, 0, 50, 10)])]
    found = [(0.9, 0, 0, 0, 10, 10), (0.8, 0, 80, 80, 90, 90), (0.4, 0, 20, 0, 30, 10)]
    scores = score(truth, [prediction(found)], 1)
    at = {c: int(np.searchsorted(CONFIDENCES, c)) for c in (0.1, 0.5, 0.85, 0.95)}
    assert [scores.precision[0, i] for i in at.values()] == pytest.approx([2 / 3, 1 / 2, 1, 0])
    assert [scores.recall[0, i] for i in at.values()] == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])
    assert scores.f1[0, at[0.1]] == pytest.approx(2 / 3)
    assert CONFIDENCES[scores.best] < 0.4


def test_a_box_is_found_once():
    truth = [boxes([(0, 0, 0, 10, 10)])]
    scores = score(truth, [prediction([(0.9, 0, 0, 0, 10, 10), (0.8, 0, 0, 0, 10, 10)])], 1)
    assert scores.precision[0, 0] == 0.5
    assert scores.recall[0, 0] == 1


@pytest.mark.parametrize(("case", "seed"), [*((random_case, seed) for seed in range(3)), (crowded_case, 0)])
def test_a_resample_scores_as_if_its_images_were_there_so_often(case, seed):
    truth, predictions = case(seed)
    resamples = 8 if case is random_case else 2
    found = score(truth, predictions, K, resamples).replicates
    (weights,) = resample(len(truth), resamples)
    for draw, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(truth)), counts)
        expected = score([truth[i] for i in rows], [predictions[i] for i in rows], K)
        assert found["map50"][draw] == pytest.approx(np.nanmean(expected.ap50), abs=1e-9)
        assert found["map50_95"][draw] == pytest.approx(np.nanmean(expected.ap50_95), abs=1e-9)
        assert {name: found[name][draw] for name in CURVE_METRICS} == expected.means


@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_where_every_image_counts_once_a_replicate_is_the_figure(seed, images):
    truth, predictions = (column[:images] for column in random_case(seed))
    truth[0] = boxes([*np.column_stack([truth[0].class_ids, truth[0].xyxy]), (2, 0, 0, 9, 9)])
    with mock.patch.object(scoring, "resample", lambda count, draws: iter([np.ones((draws, count))])):
        scores = score(truth, predictions, K, 2)
    assert {name: scores.replicates[name].tolist() for name in CURVE_METRICS} == {
        name: [value] * 2 for name, value in scores.means.items()
    }
    assert scores.replicates["map50"] == pytest.approx(np.nanmean(scores.ap50), abs=1e-9)
    assert scores.replicates["map50_95"] == pytest.approx(np.nanmean(scores.ap50_95), abs=1e-9)
    curves = {name: getattr(scores, name)[scores.present].mean(axis=0) for name in CURVE_METRICS}
    assert curves["f1"][scores.best] == pytest.approx(curves["f1"].max())
    assert {name: curve[scores.best] for name, curve in curves.items()} == pytest.approx(scores.means)


def test_a_class_that_a_resample_lacks_stays_out_of_its_means():
    # Class 0 is found on the first image; class 1 is missed on the second, and has a false positive on the first.
    truth = [boxes([(0, 0, 0, 10, 10)]), boxes([(1, 0, 0, 10, 10)])]
    found = [prediction([(0.9, 0, 0, 0, 10, 10), (0.8, 1, 50, 50, 60, 60)]), prediction([])]
    replicates = score(truth, found, 2, 40).replicates
    (weights,) = resample(2, 40)
    drawn = {(2, 0): 1.0, (1, 1): 0.5, (0, 2): 0.0}
    expected = [drawn[tuple(row)] for row in weights.astype(int).tolist()]
    assert set(expected) == {0.0, 0.5, 1.0}
    for name in CURVE_METRICS:
        assert replicates[name].tolist() == expected


def test_replicates_do_not_depend_on_how_many_are_made_at_once(monkeypatch):
    truth, predictions = random_case(0)
    expected = score(truth, predictions, K, 30).replicates
    monkeypatch.setattr(scoring, "_CELLS", 3000)
    found = score(truth, predictions, K, 30).replicates
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_resample_without_a_single_box_has_no_figure():
    truth = [boxes([(0, 0, 0, 10, 10)]), boxes([])]
    replicates = score(truth, [prediction([(0.9, 0, 0, 0, 10, 10)]), prediction([])], 1, 50).replicates
    (weights,) = resample(2, 50)
    assert set(replicates) == {"map50", "map50_95", *CURVE_METRICS}
    for values in replicates.values():
        np.testing.assert_array_equal(np.isnan(values), weights[:, 0] == 0)
        assert set(values[~np.isnan(values)]) == {1.0}
