import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight

from visionops.tasks.classification.heads import L2_GRID, class_weights, fit_head
from visionops.tasks.classification.settings import Balance


def problem(classes: int, count: int = 150, seed: int = 0, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(0, 1.2, (classes, width))
    scale = np.logspace(-2, 2, width)
    return ((centres[labels] + random.normal(0, 1, (count, width))) * scale + 5).astype(np.float32), labels


def probabilities(head, x):
    logits = x.astype(np.float64) @ head.weight.T + head.bias
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("balance", [Balance.NONE, Balance.WEIGHTS])
def test_the_head_is_scikit_learns_on_standardised_features(classes, balance):
    x, y = problem(classes)
    keep = (y != 0) | (np.arange(len(y)) % 3 == 0)  # unequal classes
    x, y = x[keep], y[keep]
    head = fit_head((x[:, None], y, np.ones(len(y))), (x[:0], y[:0]), classes, balance=balance, l2=0.05)
    of_class = compute_class_weight("balanced", classes=np.arange(classes), y=y)[y]
    w = of_class if balance is Balance.WEIGHTS else np.ones(len(y))
    mean = np.average(x, axis=0, weights=w)
    deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    judge = LogisticRegression(C=1 / (0.05 * w.sum()), max_iter=10_000, tol=1e-8)
    judge.fit((x.astype(np.float64) - mean) / deviation, y, sample_weight=w)
    fresh = problem(classes, seed=1)[0]
    expected = judge.predict_proba((fresh - mean) / deviation)
    np.testing.assert_allclose(probabilities(head, fresh), expected, atol=5e-3)


def test_class_weights_are_scikit_learns():
    y = np.array([0, 0, 0, 1, 2, 2])
    np.testing.assert_allclose(
        class_weights(y, np.ones(6), 3), compute_class_weight("balanced", classes=np.arange(3), y=y)
    )


def test_an_image_of_weight_two_counts_as_two_images():
    x, y = problem(2, 60)
    twice = np.arange(60) < 20
    weighted = fit_head((x[:, None], y, np.where(twice, 2.0, 1.0)), (x[:0], y[:0]), 2, l2=0.1)
    repeated = np.concatenate([np.arange(60), np.flatnonzero(twice)])
    doubled = fit_head((x[repeated][:, None], y[repeated], np.ones(80)), (x[:0], y[:0]), 2, l2=0.1)
    np.testing.assert_allclose(probabilities(weighted, x), probabilities(doubled, x), atol=5e-3)


def test_unknown_labels_and_images_of_weight_zero_say_nothing():
    x, y = problem(2, 80)
    clean = fit_head((x[:60, None], y[:60], np.ones(60)), (x[:0], y[:0]), 2, l2=0.1)
    x[60:] = 1e6
    labels, weights = y.copy(), np.ones(80)
    labels[60:70], weights[70:] = -1, 0
    dirty = fit_head((x[:, None], labels, weights), (x[:0], y[:0]), 2, l2=0.1)
    np.testing.assert_array_equal(clean.weight, dirty.weight)


def test_views_are_further_images_that_share_the_weight_of_one():
    x, y = problem(2, 60)
    views = np.stack([x, x[:, ::-1]], axis=1)
    together = fit_head((views, y, np.ones(60)), (x[:0], y[:0]), 2, l2=0.1)
    flat = fit_head((views.reshape(120, 1, -1), np.repeat(y, 2), np.ones(120)), (x[:0], y[:0]), 2, l2=0.1)
    np.testing.assert_allclose(together.weight, flat.weight, rtol=1e-4, atol=1e-6)


def test_the_strength_is_the_one_that_is_best_on_val():
    random = np.random.default_rng(3)
    x = random.normal(0, 1, (40, 60)).astype(np.float32)  # more features than images: only one of them matters
    y = (x[:, 0] + random.normal(0, 1, 40) > 0).astype(np.int64)
    x_val = random.normal(0, 1, (400, 60)).astype(np.float32)
    y_val = (x_val[:, 0] + random.normal(0, 1, 400) > 0).astype(np.int64)
    chosen = fit_head((x[:, None], y, np.ones(40)), (x_val, y_val), 2)
    assert chosen.l2 in L2_GRID
    assert chosen.l2 >= 0.1  # so little data must be held back
    easy, labels = problem(2, 400)
    assert fit_head((easy[:, None], labels, np.ones(400)), (easy, labels), 2).l2 < chosen.l2


def test_a_feature_that_never_changes_has_no_weight():
    x, y = problem(2, 60)
    x[:, 2] = 7.3
    head = fit_head((x[:, None], y, np.ones(60)), (x, y), 2)
    assert (head.weight[:, 2] == 0).all()
    assert np.isfinite(head.weight).all()
