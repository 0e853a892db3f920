from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionops.inference.image import decode_image
from visionops.monitoring.features import DESCRIPTOR_SIZE, FEATURE_NAMES, describe_image, descriptor, image_features


def flat(*colour: int, size: tuple[int, int] = (90, 120)):
    return np.full((*size, 3), colour, dtype=np.uint8)


@pytest.fixture(scope="module")
def casting(real_data):
    path = min((real_data / "casting").rglob("*.jpeg"))
    return decode_image(path.read_bytes())


def test_a_flat_grey_image_has_its_brightness_and_nothing_else():
    found = image_features(flat(51, 51, 51))
    assert tuple(found) == FEATURE_NAMES
    grey = {"brightness": 0.2, "red": 0.2, "green": 0.2, "blue": 0.2, "width": 120, "height": 90, "aspect": 4 / 3}
    assert found == pytest.approx({name: grey.get(name, 0.0) for name in FEATURE_NAMES})


def test_colours_are_distinguished():
    found = image_features(flat(255, 0, 51))
    assert (found["red"], found["green"], found["blue"], found["saturation"]) == pytest.approx((1, 0, 0.2, 1))


def test_noise_is_what_was_added():
    rng = np.random.default_rng(0)
    for sigma in (5, 25):
        noisy = np.clip(rng.normal(128, sigma, (400, 500, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)
        assert image_features(noisy)["noise"] == pytest.approx(sigma / 255, rel=0.05)


def test_a_step_has_the_gradient_of_its_height():
    image = flat(0, 0, 0, size=(100, 100))
    image[:, 50:] = 255
    assert image_features(image)["sharpness"] == pytest.approx(np.sqrt(1 / 99))


def test_each_change_of_a_real_image_shows_where_it_should(casting):
    before = image_features(casting)
    darker = image_features((casting * 0.5).astype(np.uint8))
    assert darker["brightness"] == pytest.approx(before["brightness"] / 2, abs=0.01)
    assert image_features(cv2.GaussianBlur(casting, (0, 0), 3))["sharpness"] < before["sharpness"] / 1.5
    noisy = np.clip(casting + np.random.default_rng(0).normal(0, 25, casting.shape), 0, 255).astype(np.uint8)
    assert image_features(noisy)["noise"] > 2 * before["noise"]


def test_the_descriptor_knows_where_and_in_which_direction():
    image = flat(0, 0, 0, size=(80, 80))
    image[:40] = (255, 0, 0)
    found = descriptor(image)
    assert found.shape == (DESCRIPTOR_SIZE,)
    assert found.dtype == np.float32
    cells = found[:48].reshape(4, 4, 3)
    assert cells[0, 0] == pytest.approx([1, 0, 0])
    assert cells[3, 3] == pytest.approx([0, 0, 0])
    assert found[48 + 12] == pytest.approx(1)  # from dark below to light above


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_an_image_of_any_size_gives_finite_numbers_in_their_ranges(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    features, vector = describe_image(image)
    assert features == image_features(image)
    assert np.isfinite(list(features.values())).all()
    shares = [features[name] for name in FEATURE_NAMES if name not in {"entropy", "noise", "width", "height", "aspect"}]
    assert all(0 <= share <= 1.5 for share in shares)
    assert 0 <= features["entropy"] <= 6
    assert np.array_equal(vector, descriptor(image))
    assert ((vector >= 0) & (vector <= 1)).all()


def test_an_image_of_one_row_is_described():
    assert image_features(flat(10, 20, 30, size=(1, 100_000)))["aspect"] == 100_000
