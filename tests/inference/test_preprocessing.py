"""The letterbox is the trainer's, and boxes find their way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from visionops.inference.preprocessing import PreprocessingSpec, preprocess

SIDES = st.integers(1, 700)


@given(width=SIDES, height=SIDES, side=st.sampled_from([64, 320]))
@example(width=1, height=3000, side=320)
@example(width=3000, height=1, side=320)
@example(width=333, height=500, side=320)
@settings(max_examples=60, deadline=None)
def test_equals_the_trainers_letterbox_and_its_way_back(width, height, side):
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.ops import scale_boxes

    rng = np.random.default_rng(width * 1000 + height)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    tensor, geometry = preprocess(image, PreprocessingSpec(width=side, height=side))
    expected = LetterBox((side, side))(image=image)
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(np.rint(tensor[0].transpose(1, 2, 0) * 255), expected)

    boxes = (rng.random((20, 4)) * side).astype(np.float32)
    original = scale_boxes((side, side), boxes.copy(), (height, width))
    np.testing.assert_allclose(geometry.to_original(boxes), original, rtol=1e-5, atol=1e-3)


def test_values_are_scaled_and_the_rest_is_padded():
    tensor, geometry = preprocess(np.full((10, 20, 3), 255, np.uint8), PreprocessingSpec(width=20, height=20))
    assert tensor.shape == (1, 3, 20, 20)
    assert tensor.dtype == np.float32
    assert tensor[0, 0, 10, 10] == pytest.approx(1)
    assert tensor[0, 0, 0, 0] == pytest.approx(114 / 255)
    assert (geometry.pad_x, geometry.pad_y) == (0, 5)


def test_an_input_need_not_be_square():
    tensor, geometry = preprocess(np.zeros((100, 50, 3), np.uint8), PreprocessingSpec(width=64, height=32))
    assert tensor.shape == (1, 3, 32, 64)
    corners = geometry.to_original(np.array([[24, 0, 40, 32]], np.float32))
    np.testing.assert_allclose(corners, [[0, 0, 50, 100]])


def test_boxes_are_clipped_to_the_image():
    _, geometry = preprocess(np.zeros((50, 100, 3), np.uint8), PreprocessingSpec(width=64, height=64))
    assert geometry.to_original(np.array([[-9, -9, 99, 99]], np.float32)).tolist() == [[0, 0, 100, 50]]
