import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from visionops.tasks.classification.augmentation import augment
from visionops.tasks.classification.loop import masked_loss, seeded
from visionops.tasks.classification.settings import Augmentation


def loss(logits, labels, weights=None, of_class=None, of_head=(1.0, 1.0), smoothing=0.0):
    count = len(labels)
    return masked_loss(
        torch.as_tensor(logits, dtype=torch.float32),
        torch.as_tensor(labels),
        torch.ones(count) if weights is None else torch.as_tensor(weights),
        of_class or [torch.ones(2), torch.ones(3)],
        torch.tensor(of_head),
        smoothing,
    )


@pytest.fixture
def case():
    random = np.random.default_rng(0)
    labels = np.stack([random.integers(0, 2, 30), random.integers(0, 3, 30)], axis=1)
    return random.normal(0, 1, (30, 5)), labels


def softmax(x):
    e = np.exp(x)
    return e / e.sum(axis=1, keepdims=True)


def test_the_loss_is_the_mean_of_the_heads_cross_entropies(case):
    logits, labels = case
    first = log_loss(labels[:, 0], softmax(logits[:, :2]), labels=[0, 1])
    second = log_loss(labels[:, 1], softmax(logits[:, 2:]), labels=[0, 1, 2])
    assert float(loss(logits, labels)) == pytest.approx((first + second) / 2, rel=1e-5)
    assert float(loss(logits, labels, of_head=(3.0, 1.0))) == pytest.approx((3 * first + second) / 4, rel=1e-5)


def test_what_is_not_known_contributes_nothing_not_even_a_gradient(case):
    logits, labels = case
    masked = labels.copy()
    masked[10:, 0] = -1
    tensor = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    value = loss(tensor, masked)
    expected = log_loss(labels[:10, 0], softmax(logits[:10, :2]), labels=[0, 1])
    expected += log_loss(labels[:, 1], softmax(logits[:, 2:]), labels=[0, 1, 2])
    assert float(value.detach()) == pytest.approx(expected / 2, rel=1e-5)
    value.backward()
    assert (tensor.grad[10:, :2] == 0).all()
    assert (tensor.grad[:10, :2] != 0).any()


def test_a_batch_in_which_nothing_is_known_is_no_division_by_zero(case):
    logits, labels = case
    value = loss(logits, np.full_like(labels, -1))
    assert float(value) == 0


def test_weights_of_images_and_of_classes(case):
    logits, labels = case
    weights = np.linspace(0, 2, 30, dtype=np.float32)
    first = log_loss(labels[:, 0], softmax(logits[:, :2]), labels=[0, 1], sample_weight=weights)
    assert float(loss(logits, labels, weights, of_head=(1.0, 0.0))) == pytest.approx(first, rel=1e-5)
    of_class = [torch.tensor([1.0, 4.0]), torch.ones(3)]
    judge = torch.nn.functional.cross_entropy(
        torch.tensor(logits[:, :2]), torch.tensor(labels[:, 0]), torch.tensor([1.0, 4.0]).double(), reduction="none"
    )
    weighted = loss(logits, labels, of_class=of_class, of_head=(1.0, 0.0))
    assert float(weighted) == pytest.approx(float(judge.mean()), rel=1e-5)


def test_label_smoothing_is_torchs(case):
    logits, labels = case
    judge = torch.nn.functional.cross_entropy(
        torch.tensor(logits[:, 2:]), torch.tensor(labels[:, 1]), label_smoothing=0.2
    )
    assert float(loss(logits, labels, of_head=(0.0, 1.0), smoothing=0.2)) == pytest.approx(float(judge), rel=1e-5)


def test_seeded_blocks_draw_the_same_and_leave_the_rest_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(3, 1):
        first = torch.rand(4)
    with seeded(3, 1):
        second = torch.rand(4)
    with seeded(3, 2):
        third = torch.rand(4)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), before)


# Augmentation ----------------------------------------------------------------------------------------------------


@pytest.fixture
def canvases():
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (6, 4, 4, 3))
    return np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2).astype(np.uint8)


def changed(canvases, seed=0, **settings):
    return augment(canvases, Augmentation(**{"fliplr": 0.0, **settings}), np.random.default_rng(seed))


def test_no_augmentation_changes_nothing(canvases):
    np.testing.assert_array_equal(changed(canvases), canvases)


def test_flips(canvases):
    np.testing.assert_array_equal(changed(canvases, fliplr=1.0), canvases[:, :, ::-1])
    np.testing.assert_array_equal(changed(canvases, flipud=1.0), canvases[:, ::-1])
    some = changed(np.repeat(canvases[:1], 400, axis=0), fliplr=0.25)
    assert 60 <= sum(not np.array_equal(image, canvases[0]) for image in some) <= 140


def test_each_seed_has_its_own_changes_and_the_input_is_left_alone(canvases):
    before = canvases.copy()
    settings = {"degrees": 20.0, "scale": 0.2, "translate": 0.1, "brightness": 0.2, "contrast": 0.3}
    first = changed(canvases, **settings)
    np.testing.assert_array_equal(first, changed(canvases, **settings))
    assert not np.array_equal(first, changed(canvases, seed=1, **settings))
    np.testing.assert_array_equal(canvases, before)
    assert first.dtype == np.uint8
    assert first.shape == canvases.shape


@pytest.mark.parametrize("name", ["degrees", "scale", "translate", "brightness", "contrast"])
def test_every_setting_acts(canvases, name):
    result = changed(canvases, **{name: 90.0 if name == "degrees" else 0.5})
    assert (np.abs(result.astype(int) - canvases).mean(axis=(1, 2, 3)) > 0.5).sum() >= 4


def test_brightness_shifts_all_channels_alike(canvases):
    result = changed(canvases, brightness=0.1).astype(int) - canvases
    for shift in result:
        assert np.ptp(shift) == 0 or (shift + canvases.min() < 1).any() or abs(shift).max() <= 26
    assert len({int(shift.flat[0]) for shift in result}) > 1
