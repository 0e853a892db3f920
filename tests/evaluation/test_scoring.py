"""Scores are pycocotools' own, with its traps avoided."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

from visionops.data.dataset import Boxes
from visionops.evaluation.label_scoring import resample
from visionops.evaluation.scoring import CONFIDENCES, score
from visionops.inference.prediction import BoxPrediction

K = 5
NAMES = tuple("abcde")


def boxes(rows) -> Boxes:
    """(class, x1, y1, x2, y2) rows."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    return Boxes(table[:, 1:], table[:, 0].astype(np.int32))


def prediction(rows) -> BoxPrediction:
    """(score, class, x1, y1, x2, y2) rows, best first."""
    table = np.array(sorted(rows, key=lambda r: -r[0]), dtype=np.float32).reshape(-1, 6)
    return BoxPrediction(100, 100, table[:, 2:], table[:, 0], table[:, 1].astype(np.int32), NAMES)


def random_case(seed: int):
    """30 images; some without boxes, some without detections; class 3 is never true, class 4 never detected."""
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


def reference(truth, predictions, folder):
    """AP per class at 0.5 and 0.50:0.95 from JSON files, the way the library's demo has it; -1 for no instances."""
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
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_an_independent_run(tmp_path, capsys, seed):
    truth, predictions = random_case(seed)
    scores = score(truth, predictions, K)
    assert capsys.readouterr().out == ""
    expected = reference(truth, predictions, tmp_path)
    assert np.nanmean(scores.ap50_95) == pytest.approx(expected.stats[0], abs=1e-6)
    assert np.nanmean(scores.ap50) == pytest.approx(expected.stats[1], abs=1e-6)
    assert np.nanmean(scores.average_recall) == pytest.approx(expected.stats[8], abs=1e-6)
    per_class = expected.eval["precision"][0, :, :, 0, 2].mean(axis=0)
    np.testing.assert_allclose(np.nan_to_num(scores.ap50, nan=-1), per_class, atol=1e-6)
    assert np.isnan(scores.ap50[3])
    assert scores.ap50[4] == 0


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
    # One class, three boxes; detections: right 0.9, wrong 0.8, right 0.4.
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


@pytest.mark.parametrize("seed", range(3))
def test_a_resample_scores_as_if_its_images_were_there_so_often(seed):
    truth, predictions = random_case(seed)
    resamples = 8
    found = score(truth, predictions, K, resamples).replicates
    (weights,) = resample(len(truth), resamples)
    for draw, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(len(truth)), counts)
        expected = score([truth[i] for i in rows], [predictions[i] for i in rows], K)
        assert found["map50"][draw] == pytest.approx(np.nanmean(expected.ap50), abs=1e-9)
        assert found["map50_95"][draw] == pytest.approx(np.nanmean(expected.ap50_95), abs=1e-9)


def test_a_resample_without_a_single_box_has_no_figure():
    truth = [boxes([(0, 0, 0, 10, 10)]), boxes([])]
    values = score(truth, [prediction([(0.9, 0, 0, 0, 10, 10)]), prediction([])], 1, 50).replicates["map50"]
    (weights,) = resample(2, 50)
    np.testing.assert_array_equal(np.isnan(values), weights[:, 0] == 0)
    assert set(values[~np.isnan(values)]) == {1.0}
