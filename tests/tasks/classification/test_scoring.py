"""Metrics of labels equal scikit-learn's, weighted or not; calibration is computed by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from visionops.evaluation.resampling import resample
from visionops.inference.bundle import Head
from visionops.tasks.classification.scoring import (
    LABEL_METRICS,
    Outcome,
    bin_reliability,
    calibration_error,
    figures,
    log_loss,
)

NAMES = tuple("abcdefgh")


def outcome(truth, probabilities, *, positive: int | None = None, answers=None, name: str = "class") -> Outcome:
    p = np.asarray(probabilities, dtype=np.float64)
    names = NAMES[: p.shape[1]]
    head = Head(name=name, class_names=names, positive=None if positive is None else names[positive])
    said = p.argmax(axis=1) if answers is None else np.asarray(answers)
    return Outcome(head, np.asarray(truth, dtype=np.int64), p, said.astype(np.int64))


def random_outcome(classes: int, images: int, seed: int, *, positive: int | None = None, name="class") -> Outcome:
    """Return an outcome that is better than chance, a tenth unknown, with ties among probabilities."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, images)
    p = rng.dirichlet(np.ones(classes), images)
    p[np.arange(images), truth] += rng.random(images)
    p = np.round(p / p.sum(axis=1, keepdims=True), 2)
    truth[rng.random(images) < 0.1] = -1
    return outcome(truth, p, positive=positive, name=name)


def ones(images: int) -> np.ndarray:
    return np.ones((1, images))


def reference(o: Outcome, weights: np.ndarray) -> dict[str, float]:
    """Return scikit-learn's values for one weighting."""
    rows = np.flatnonzero((o.truth >= 0) & (weights > 0))
    truth, said, p, w = o.truth[rows], o.answers[rows], o.probabilities[rows], weights[rows]
    classes, judged = range(p.shape[1]), o.judged_classes
    recall = sk.recall_score(truth, said, labels=classes, average=None, sample_weight=w, zero_division=np.nan)
    f1 = sk.f1_score(truth, said, labels=classes, average=None, sample_weight=w, zero_division=np.nan)
    both = [k for k in judged if 0 < (truth == k).sum() < len(truth)]
    return {
        "accuracy": sk.accuracy_score(truth, said, sample_weight=w),
        "balanced_accuracy": np.nanmean(recall),
        "f1": np.nanmean([f1[k] for k in judged]),
        "roc_auc": np.mean([sk.roc_auc_score(truth == k, p[:, k], sample_weight=w) for k in both]),
        "pr_auc": np.mean([sk.average_precision_score(truth == k, p[:, k], sample_weight=w) for k in both]),
    }


# Against scikit-learn


@pytest.mark.parametrize(("classes", "positive"), [(2, 1), (2, 0), (2, None), (3, None), (6, None)])
@pytest.mark.parametrize("seed", range(4))
def test_every_figure_and_every_replicate_is_scikit_learns(classes, positive, seed):
    o = random_outcome(classes, 80, seed, positive=positive)
    weights = np.concatenate([ones(80), next(resample(80, 20))])
    values = figures([o], weights)
    for row, w in enumerate(weights):
        expected = reference(o, w)
        assert {m: values[m][row] for m in LABEL_METRICS} == pytest.approx(expected, abs=1e-12)


def test_balanced_accuracy_and_macro_f1_are_the_librarys_own():
    o = random_outcome(4, 200, 7).known()
    values = figures([o], ones(len(o.truth)))
    assert values["balanced_accuracy"][0] == pytest.approx(sk.balanced_accuracy_score(o.truth, o.answers))
    assert values["f1"][0] == pytest.approx(sk.f1_score(o.truth, o.answers, average="macro"))
    p = o.probabilities / o.probabilities.sum(axis=1, keepdims=True)  # the library requires it, because it was rounded
    o = outcome(o.truth, p, answers=o.answers)
    assert figures([o], ones(len(o.truth)))["roc_auc"][0] == pytest.approx(
        sk.roc_auc_score(o.truth, p, multi_class="ovr")
    )


def test_figures_of_a_class_are_the_librarys():
    o = random_outcome(3, 150, 3)
    values = figures([o], ones(150))
    known = o.known()
    table = sk.precision_recall_fscore_support(known.truth, known.answers, labels=range(3))
    for k, name in enumerate("abc"):
        found = [values[f"{name}.{m}"][0] for m in ("precision", "recall", "f1")]
        assert found == pytest.approx([table[0][k], table[1][k], table[2][k]])


@given(
    scores=st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_areas_are_the_librarys_whatever_the_ties(scores):
    truth = np.array([int(t) for t, _ in scores])
    p = np.array([s / 6 for _, s in scores])
    values = figures([outcome(truth, np.column_stack([1 - p, p]), positive=1)], ones(len(p)))
    if 0 < truth.sum() < len(truth):
        assert values["roc_auc"][0] == pytest.approx(sk.roc_auc_score(truth, p))
        assert values["pr_auc"][0] == pytest.approx(sk.average_precision_score(truth, p))
    else:
        assert np.isnan(values["roc_auc"][0])
        assert np.isnan(values["pr_auc"][0])


# Undefined metrics


def test_a_class_without_images_stays_out_of_the_mean():
    o = outcome([0, 0, 1], [[0.9, 0.1, 0], [0.8, 0.2, 0], [0.3, 0.7, 0]])
    values = figures([o], ones(3))
    assert values["balanced_accuracy"][0] == 1
    assert values["f1"][0] == 1
    assert values["roc_auc"][0] == 1
    assert np.isnan(values["c.recall"][0])
    assert np.isnan(values["c.precision"][0])


def test_one_class_alone_has_no_areas():
    values = figures([outcome([1, 1], [[0.2, 0.8], [0.6, 0.4]], positive=1)], ones(2))
    assert values["accuracy"][0] == 0.5
    assert values["balanced_accuracy"][0] == 0.5
    assert values["f1"][0] == pytest.approx(2 / 3)
    assert np.isnan(values["roc_auc"][0])


def test_nothing_known_has_no_figures():
    o = outcome([-1, -1], [[0.2, 0.8], [0.6, 0.4]], positive=1)
    assert all(np.isnan(values[0]) for values in figures([o], ones(2)).values())
    assert np.isnan(calibration_error(o))
    assert np.isnan(log_loss(o))


# Several heads


def test_figures_over_heads_are_means_of_what_is_defined():
    heads = [random_outcome(2, 60, 1, positive=1, name="x"), random_outcome(4, 60, 2, name="y")]
    heads.append(outcome([-1] * 60, heads[1].probabilities, name="z"))
    values = figures(heads, ones(60))
    for metric in LABEL_METRICS:
        alone = [figures([o], ones(60))[metric][0] for o in heads[:2]]
        assert values[metric][0] == pytest.approx(np.mean(alone))
        assert [values[f"{n}.{metric}"][0] for n in "xy"] == pytest.approx(alone)
        assert np.isnan(values[f"z.{metric}"][0])


def test_an_exact_match_is_right_in_all_that_is_known():
    p = [[0.9, 0.1]] * 4
    heads = [outcome([0, 0, -1, -1], p, name="x"), outcome([0, 1, 0, -1], p, name="y")]
    values = figures(heads, np.array([[1, 1, 1, 1], [0, 3, 1, 5]], dtype=float))
    assert values["exact_match"].tolist() == pytest.approx([2 / 3, 1 / 4])


# Resampling


def test_draws_depend_on_nothing_but_their_number():
    first, second = (np.concatenate(list(resample(50, 30))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (30, 50)
    assert (first.sum(axis=1) == 50).all()
    assert first.max() > 1


def test_draws_come_in_batches_of_a_bounded_size():
    batches = list(resample(400_000, 5))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert len({batch.tobytes() for batch in (b[:1] for b in batches)}) == 3


def test_replicates_spread_as_a_proportion_does():
    truth = np.zeros(400, dtype=int)
    o = outcome(truth, [[0.9, 0.1]] * 320 + [[0.1, 0.9]] * 80)
    values = np.concatenate([figures([o], w)["accuracy"] for w in resample(400, 4000)])
    assert values.mean() == pytest.approx(0.8, abs=0.002)
    assert values.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 400), rel=0.05)


def test_a_thousand_resamples_of_a_thousand_images_take_little_time():
    o = random_outcome(2, 1000, 0, positive=1)
    start = time.process_time()
    for weights in resample(1000, 1000):
        figures([o], weights)
    assert time.process_time() - start < 2


# Calibration, by hand


def test_calibration_error_by_hand():
    # Bins of a 15th: 0.95 and 0.97 share the last, one of them right; 0.62 is alone in (9/15, 10/15] and is right.
    o = outcome([0, 1, 0], [[0.95, 0.05], [0.97, 0.03], [0.62, 0.38]])
    assert calibration_error(o) == pytest.approx(2 / 3 * (0.96 - 0.5) + 1 / 3 * (1 - 0.62))


def test_a_bin_ends_with_its_upper_edge():
    counts, confidence, accuracy = bin_reliability(outcome([0, 0, 1], [[0.6, 0.4], [0.61, 0.39], [1.0, 0.0]]))
    assert {int(k): int(counts[k]) for k in np.flatnonzero(counts)} == {8: 1, 9: 1, 14: 1}
    assert (confidence[8], accuracy[8], accuracy[14]) == (0.6, 1, 0)
    assert np.isnan(confidence[0])


def test_calibration_looks_at_the_most_probable_class_and_not_at_the_threshold():
    p = [[0.8, 0.2]] * 10
    kept, moved = outcome([0] * 8 + [1] * 2, p), outcome([0] * 8 + [1] * 2, p, answers=[1] * 10)
    assert calibration_error(kept) == pytest.approx(0)
    assert calibration_error(moved) == pytest.approx(0)


def test_calibration_of_several_classes_by_hand():
    o = outcome([2, 0, -1], [[0.1, 0.2, 0.7], [0.3, 0.45, 0.25], [1, 0, 0]])
    assert calibration_error(o) == pytest.approx((0.3 + 0.45) / 2)


def test_log_loss_is_scikit_learns():
    o = random_outcome(3, 50, 5).known()
    p = o.probabilities + 0.01
    p /= p.sum(axis=1, keepdims=True)
    assert log_loss(outcome(o.truth, p)) == pytest.approx(sk.log_loss(o.truth, p, labels=[0, 1, 2]))


def test_a_truth_given_no_probability_costs_much_but_not_everything():
    assert log_loss(outcome([1], [[1.0, 0.0]])) == pytest.approx(87.3365, abs=1e-3)  # -log of float32's smallest
