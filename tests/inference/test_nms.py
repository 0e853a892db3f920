"""NMS keeps the same boxes as torchvision for each class, in the same order; decoding equals Ultralytics'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.inference.nms import suppress


def candidates(seed: int, count: int, classes: int, spread: float):
    """Return clusters of overlapping boxes, float32, with ties among the scores."""
    rng = np.random.default_rng(seed)
    centre = rng.random((count, 2)) * spread
    size = 20 + rng.random((count, 2)) * 60
    xyxy = np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)
    scores = (rng.integers(1, 200, count) / 200).astype(np.float32)
    return xyxy, scores, rng.integers(0, classes, count).astype(np.int32)


def class_by_class(xyxy, scores, class_ids, iou):
    """Return the rows that torchvision keeps for one class at a time, best first."""
    import torch
    import torchvision

    kept = [np.empty(0, np.int64)]
    for class_id in np.unique(class_ids):
        rows = np.flatnonzero(class_ids == class_id)
        best_first = torchvision.ops.nms(torch.from_numpy(xyxy[rows]), torch.from_numpy(scores[rows]), iou)
        kept.append(rows[best_first.numpy()])
    rows = np.sort(np.concatenate(kept))
    return rows[np.argsort(-scores[rows], kind="stable")]


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 400),
    classes=st.integers(1, 8),
    iou=st.sampled_from([0.0, 0.3, 0.45, 0.5, 0.7, 0.9, 1.0]),
    spread=st.sampled_from([50.0, 300.0, 2000.0]),
)
@settings(max_examples=40, deadline=None)
def test_equals_torchvision_class_by_class(seed, count, classes, iou, spread):
    xyxy, scores, class_ids = candidates(seed, count, classes, spread)
    expected = class_by_class(xyxy, scores, class_ids, iou)[:300]
    np.testing.assert_array_equal(suppress(xyxy, scores, class_ids, iou, 300), expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    ids=st.lists(st.integers(0, 2**31 - 1), min_size=4, max_size=4, unique=True),
    iou=st.sampled_from([0.3, 0.5, 0.7]),
)
@settings(max_examples=40, deadline=None)
def test_which_boxes_stay_depends_on_no_class_id(seed, ids, iou):
    xyxy, scores, class_ids = candidates(seed, 300, 4, 100.0)
    named = np.array(ids, np.int32)[class_ids]
    kept = suppress(xyxy, scores, named, iou, 300)
    np.testing.assert_array_equal(kept, suppress(xyxy, scores, class_ids, iou, 300))
    np.testing.assert_array_equal(kept, class_by_class(xyxy, scores, named, iou))


@pytest.mark.parametrize("class_id", [0, 79, 300, 1200, 2**31 - 1])
def test_an_overlap_just_below_the_threshold_stays_in_every_class(class_id):
    xyxy = np.array([[10, 10, 14, 14], [11.1, 10, 15.1, 14]], np.float32)  # IoU 2.9 / 5.1 = 0.5686
    scores, class_ids = np.array([0.9, 0.8], np.float32), np.full(2, class_id, np.int32)
    assert suppress(xyxy, scores, class_ids, 0.57, 300).tolist() == [0, 1]
    assert suppress(xyxy, scores, class_ids, 0.568, 300).tolist() == [0]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("confidence", [0.25, 0.9])
def test_raw_outputs_decode_as_the_trainers_do(multi_label, confidence):
    import torch
    from ultralytics.utils.nms import non_max_suppression

    from visionops.inference.bundle import Decode, Thresholds
    from visionops.tasks.detection.decoder import _decode_boxes

    rng = np.random.default_rng(7)
    raw = np.empty((1, 9, 2100), np.float32)
    raw[:, :2], raw[:, 2:4] = rng.random((1, 2, 2100)) * 320, 10 + rng.random((1, 2, 2100)) * 90
    raw[:, 4:] = rng.random((1, 5, 2100)) ** 4
    expected = non_max_suppression(torch.from_numpy(raw.copy()), confidence, 0.7, multi_label=multi_label)[0].numpy()
    xyxy, scores, class_ids = _decode_boxes(
        raw, Decode.YOLO, Thresholds(confidence=confidence, iou=0.7), multi_label=multi_label
    )
    assert len(expected) > 50
    np.testing.assert_array_equal(np.column_stack([xyxy, scores, class_ids]), expected)


def test_nothing_in_nothing_out():
    empty = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32)
    assert suppress(*empty, 0.7, 300).shape == (0,)


def test_the_best_of_a_class_stays_and_other_classes_are_left_alone():
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    scores = np.array([0.5, 0.9, 0.7, 0.1], np.float32)
    class_ids = np.array([0, 0, 1, 0], np.int32)
    assert suppress(xyxy, scores, class_ids, 0.5, 300).tolist() == [1, 2, 3]
    assert suppress(xyxy, scores, class_ids, 0.5, 2).tolist() == [1, 2]


def test_an_overlap_of_exactly_the_threshold_stays():
    xyxy = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert suppress(xyxy, scores, np.zeros(2, np.int32), 0.5, 300).tolist() == [0, 1]


def test_boxes_without_area_neither_crash_nor_suppress():
    xyxy = np.zeros((3, 4), np.float32)
    assert len(suppress(xyxy, np.ones(3, np.float32), np.zeros(3, np.int32), 0.5, 300)) == 3


def test_at_most_thirty_thousand_candidates_are_looked_at():
    xyxy = np.zeros((30_001, 4), np.float32)
    xyxy[:, 2:] = 10
    xyxy[-1] += 50
    scores = np.linspace(1, 0.5, 30_001, dtype=np.float32)
    assert suppress(xyxy, scores, np.zeros(30_001, np.int32), 0.5, 300).tolist() == [0]
