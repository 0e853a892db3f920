"""Boxes are found, confused, missed or false positives; images are ranked by these errors."""

from __future__ import annotations

import pytest

from tests.tasks.detection.test_scoring import boxes, prediction
from visionops.tasks.detection.matching import confusion_matrix, match

TRUTH = boxes([(0, 0, 0, 10, 10), (1, 50, 50, 70, 70)])


def test_all_found_is_not_bad():
    matches = match(TRUTH, prediction([(0.9, 0, 0, 0, 10, 10), (0.8, 1, 50, 50, 70, 70)]))
    assert matches.correct.all()
    assert not matches.missed.any()
    assert matches.badness == 0


def test_badness_adds_missed_boxes_and_the_confidence_of_wrong_ones():
    matches = match(TRUTH, prediction([(0.75, 1, 0, 0, 10, 10), (0.5, 0, 80, 80, 90, 90)]))
    assert matches.missed.tolist() == [True, True]
    assert matches.partner.tolist() == [0, -1]
    assert matches.badness == pytest.approx(3.25)


def test_a_pair_of_one_class_comes_before_a_better_overlap_of_another():
    matches = match(boxes([(0, 0, 0, 10, 10)]), prediction([(0.9, 1, 0, 0, 10, 10), (0.4, 0, 0, 0, 10, 8)]))
    assert matches.partner.tolist() == [-1, 0]


def test_an_overlap_below_one_half_is_no_match():
    matches = match(boxes([(0, 0, 0, 10, 10)]), prediction([(0.9, 0, 0, 0, 10, 4.9)]))
    assert matches.partner.tolist() == [-1]


def test_the_confusion_matrix_counts_pairs_and_background():
    first = match(TRUTH, prediction([(0.9, 0, 0, 0, 10, 10), (0.8, 0, 50, 50, 70, 70), (0.7, 1, 20, 80, 30, 90)]))
    second = match(boxes([(1, 0, 0, 10, 10)]), prediction([]))
    assert confusion_matrix([first, second], 2).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_empty_meets_empty():
    matches = match(boxes([]), prediction([]))
    assert matches.badness == 0
    assert confusion_matrix([matches], 2).sum() == 0
