import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from visionops.tasks.classification.calibration import choose_threshold, fit_temperature, smoothed_loss
from visionops.tasks.classification.settings import GoalMetric, ThresholdGoal


def sampled(temperature: float, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn from their softmax at a temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (count, 3))
    p = np.exp(logits / temperature)
    p /= p.sum(axis=1, keepdims=True)
    return logits, (p.cumsum(axis=1) < random.random((count, 1))).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_finds_the_temperature_that_labels_were_drawn_at(temperature):
    assert fit_temperature(*sampled(temperature)) == pytest.approx(temperature, rel=0.03)


def test_the_loss_expects_what_so_many_images_can_tell():
    logits, labels = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5]]), np.array([0, 1])
    p = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    targets = np.array([[3 / 4, 1 / 8, 1 / 8], [1 / 8, 3 / 4, 1 / 8]])  # (2 + 1) / (2 + 2), and two share the rest
    assert smoothed_loss(logits, labels, 2.0) == pytest.approx(-(targets * np.log(p)).sum(axis=1).mean())


def test_a_handful_of_right_answers_is_no_certainty():
    logits = np.array([[3.0, -3.0], [-3.0, 3.0]] * 5)
    labels = np.array([0, 1] * 5)
    best = 1 / (1 + np.exp(-6 / fit_temperature(logits, labels)))
    assert best == pytest.approx(11 / 12, abs=0.001)  # Laplace: (10 + 1) / (10 + 2)
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


def cases():
    pair = st.tuples(st.integers(0, 20).map(lambda v: v / 20), st.booleans())
    return st.lists(pair, min_size=2, max_size=30).filter(lambda rows: len({truth for _, truth in rows}) == 2)


@settings(deadline=None, max_examples=30)
@given(rows=cases(), metric=st.sampled_from([GoalMetric.F1, GoalMetric.BALANCED_ACCURACY]))
def test_no_threshold_is_better_than_the_chosen_one(rows, metric):
    p, truth = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    score = balanced_accuracy_score if metric is GoalMetric.BALANCED_ACCURACY else f1_score
    chosen = choose_threshold(p, truth, ThresholdGoal(metric=metric), "head")
    assert chosen is not None
    best = max(score(truth, p >= t) for t in np.linspace(-0.025, 0.975, 21))
    assert score(truth, p >= chosen) >= best - 1e-9


@settings(deadline=None, max_examples=30)
@given(rows=cases(), precision=st.sampled_from([0.5, 0.8, 1.0]))
def test_the_most_recall_at_a_precision(rows, precision):
    p, truth = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    goal = ThresholdGoal(metric=GoalMetric.RECALL_AT_PRECISION, precision=precision)
    chosen = choose_threshold(p, truth, goal, "head")
    tried = [
        (precision_score(truth, p >= t, zero_division=0), recall_score(truth, p >= t))
        for t in np.linspace(-0.025, 0.975, 21)
        if (p >= t).any()
    ]
    found = (precision_score(truth, p >= chosen, zero_division=0), recall_score(truth, p >= chosen))
    if any(reached >= precision for reached, _ in tried):
        assert found[0] >= precision
        assert found[1] >= max(r for reached, r in tried if reached >= precision) - 1e-9
    else:
        assert found[0] >= max(reached for reached, _ in tried) - 1e-9


def test_a_goal_that_cannot_be_reached_is_said(caplog):
    goal = ThresholdGoal(metric=GoalMetric.RECALL_AT_PRECISION, precision=0.9)
    p, truth = np.array([0.9, 0.8, 0.2]), np.array([False, True, False])
    assert choose_threshold(p, truth, goal, "defect") == pytest.approx(0.5)
    assert "no threshold of defect has a precision of 0.9 on val; the nearest, 0.500" in caplog.text


def test_without_two_classes_there_is_nothing_to_choose(caplog):
    goal = ThresholdGoal(metric=GoalMetric.F1)
    assert choose_threshold(np.array([0.2, 0.7]), np.array([True, True]), goal, "defect") is None
    assert "only one class of defect" in caplog.text
    assert choose_threshold(np.array([0.2, 0.7]), np.array([True, False]), ThresholdGoal(), "defect") is None
