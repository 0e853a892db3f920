"""Agreement of two answers to one image."""

from __future__ import annotations

import numpy as np

from visionops.inference.bundle import Head
from visionops.tasks.classification.prediction import Answer, LabelPrediction
from visionops.tasks.detection.prediction import BoxPrediction


def boxes(*rows: tuple[float, float, float, float, int], names: tuple[str, ...] = ("a", "b")) -> BoxPrediction:
    table = np.array(rows, np.float32).reshape(-1, 5)
    scores = np.linspace(0.9, 0.5, len(table)).astype(np.float32)
    return BoxPrediction(100, 100, table[:, :4], scores, table[:, 4].astype(np.int32), names)


def labels(**probabilities: tuple[float, float]) -> LabelPrediction:
    answers = tuple(
        Answer(Head(name=name, class_names=("no", "yes")), np.array(p, np.float32)) for name, p in probabilities.items()
    )
    return LabelPrediction(10, 10, answers, len(answers) == 1, np.empty(0, np.float32))


def test_boxes_agree_as_f1_of_pairs():
    one, other = (0, 0, 10, 10, 0), (50, 50, 60, 60, 1)
    assert boxes().agreement(boxes()) == 1.0
    assert boxes(one).agreement(boxes()) == boxes().agreement(boxes(one)) == 0.0
    assert boxes(one, other).agreement(boxes(other, one)) == 1.0
    assert boxes(one, other).agreement(boxes(one)) == 2 / 3
    assert boxes(one).agreement(boxes((0, 0, 10, 10, 1))) == 0.0  # of another class
    assert boxes(one).agreement(boxes((0, 0, 10, 10, 1), names=("b", "a"))) == 1.0  # by name, not by number
    assert boxes(one).agreement(boxes((0, 0, 10, 5, 0))) == 1.0  # an IoU of one half is enough
    assert boxes(one).agreement(boxes((0, 0, 10, 4.9, 0))) == 0.0


def test_a_box_is_matched_once_and_with_the_nearest():
    one, near = (0, 0, 10, 10, 0), (0, 0, 10, 8, 0)
    assert boxes(one).agreement(boxes(one, near)) == 2 / 3
    assert boxes(one, near).agreement(boxes(near, one)) == 1.0


def test_labels_agree_as_the_share_of_equal_answers():
    both = labels(glass=(0.1, 0.9), crack=(0.8, 0.2))
    assert both.agreement(labels(glass=(0.4, 0.6), crack=(0.8, 0.2))) == 1.0
    assert both.agreement(labels(glass=(0.6, 0.4), crack=(0.8, 0.2))) == 0.5
    assert both.agreement(labels(glass=(0.1, 0.9))) == 0.5
    assert both.agreement(boxes()) == boxes().agreement(both) == 0.0
