"""The letterbox equals the trainer's, and boxes are mapped back correctly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from visionops.inference.image import decode_image
from visionops.inference.preprocessing import content_box, preprocess, to_canvas, to_tensor
from visionops.inference.preprocessing_spec import ContentCrop, Interpolation, PreprocessingSpec, Resize

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


# Other ways of resizing

SPECS = st.builds(
    PreprocessingSpec,
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    resize=st.sampled_from(Resize),
    interpolation=st.sampled_from(Interpolation),
    crop=st.none() | st.builds(ContentCrop, tolerance=st.integers(0, 40), margin=st.floats(0, 1)),
)


def rectangle_in(width: int, height: int, x: int, y: int, w: int, h: int) -> np.ndarray:
    """Return a black image with a white rectangle."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    return image


@given(width=st.integers(1, 300), height=st.integers(1, 300), seed=st.integers(0, 99), spec=SPECS)
@example(width=1, height=1, seed=0, spec=PreprocessingSpec(width=32, height=32, resize=Resize.CENTER_CROP))
@example(width=1, height=1_000_000, seed=0, spec=PreprocessingSpec(width=32, height=32, resize=Resize.CENTER_CROP))
@example(width=1_000_000, height=1, seed=0, spec=PreprocessingSpec(width=80, height=80, resize=Resize.CENTER_CROP))
@example(width=1, height=3000, seed=0, spec=PreprocessingSpec(width=32, height=16, resize=Resize.STRETCH))
@example(width=1, height=300, seed=0, spec=PreprocessingSpec(width=8, height=8, crop=ContentCrop(margin=1)))
@settings(max_examples=150, deadline=None)
def test_the_canvas_is_always_of_the_specs_size(width, height, seed, spec):
    rng = np.random.default_rng(seed)
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    image = rectangle_in(width, height, x, y, int(rng.integers(0, width)), int(rng.integers(0, height)))
    canvas, geometry = to_canvas(image, spec)
    assert canvas.shape == (spec.height, spec.width, 3)
    assert canvas.dtype == np.uint8
    assert canvas.flags.c_contiguous
    assert (geometry.width, geometry.height) == (width, height)
    everything = geometry.to_original(np.array([[0, 0, spec.width, spec.height]], np.float32))[0]
    assert 0 <= everything[0] <= everything[2] <= width
    assert 0 <= everything[1] <= everything[3] <= height


@given(
    sides=st.tuples(st.integers(60, 400), st.integers(60, 400)),
    at=st.tuples(st.floats(0.3, 0.45), st.floats(0.3, 0.45)),
    size=st.tuples(st.floats(0.25, 0.4), st.floats(0.25, 0.4)),  # contains the middle, which each resize sees
    resize=st.sampled_from(Resize),
    interpolation=st.sampled_from(Interpolation),
    crop=st.none() | st.just(ContentCrop(margin=0.2)),
)
@settings(max_examples=150, deadline=None)
def test_what_is_found_on_the_canvas_maps_back_to_where_it_is(sides, at, size, resize, interpolation, crop):
    spec = PreprocessingSpec(width=96, height=64, resize=resize, interpolation=interpolation, crop=crop, pad_value=0)
    width, height = sides
    x, y, w, h = round(at[0] * width), round(at[1] * height), round(size[0] * width), round(size[1] * height)
    canvas, geometry = to_canvas(rectangle_in(width, height, x, y, w, h), spec)
    rows, columns = np.nonzero(canvas[:, :, 0] > 127)
    found = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    sees = geometry.to_original(np.array([[0, 0, spec.width, spec.height]], np.float32))[0]
    true = np.clip([x, y, x + w, y + h], [*sees[:2], *sees[:2]], [*sees[2:], *sees[2:]])
    pixel = 1 / np.array([geometry.gain_x, geometry.gain_y] * 2)  # of the canvas, in pixels of the image
    assert (np.abs(geometry.to_original(found)[0] - true) <= 1.01 * np.maximum(pixel, 1)).all()


def test_stretching_and_cropping_by_hand():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = 255
    stretched, geometry = to_canvas(image, PreprocessingSpec(width=20, height=20, resize=Resize.STRETCH))
    assert stretched[:, :10].min() == 255
    assert stretched[:, 10:].max() == 0
    assert (geometry.gain_x, geometry.gain_y, geometry.pad_x, geometry.pad_y) == (0.25, 0.5, 0, 0)

    cropped, geometry = to_canvas(image, PreprocessingSpec(width=20, height=20, resize=Resize.CENTER_CROP))
    assert cropped[:, :10].min() == 255
    assert (geometry.gain_x, geometry.gain_y, geometry.pad_x, geometry.pad_y) == (0.5, 0.5, -10, 0)
    assert geometry.to_original(np.array([[0, 0, 20, 20]], np.float32)).tolist() == [[20, 0, 60, 40]]


def test_area_takes_the_mean_where_linear_leaves_pixels_out():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = 255
    area, linear = (
        to_canvas(stripes, PreprocessingSpec(width=8, height=8, resize=Resize.STRETCH, interpolation=way))[0]
        for way in (Interpolation.AREA, Interpolation.LINEAR)
    )
    assert area.tolist() == np.full((8, 8, 3), 32).tolist()  # 255 / 8
    assert linear.max() == 0


def test_mean_and_deviation_are_per_channel():
    spec = PreprocessingSpec(width=4, height=4, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    tensor = to_tensor(np.full((3, 4, 4, 3), 255, np.uint8), spec)
    assert tensor.shape == (3, 3, 4, 4)
    assert tensor.dtype == np.float32
    assert tensor[1, :, 2, 2] == pytest.approx([1, 3, 0.5])


# The content crop


def test_the_content_is_found_squared_and_given_a_margin():
    image = rectangle_in(200, 100, 90, 20, 40, 20)
    assert content_box(image, ContentCrop(margin=0)) == (90, 10, 40, 40)
    assert content_box(image, ContentCrop(margin=0.25)) == (80, 0, 60, 60)


def test_content_at_the_edge_is_not_left():
    image = rectangle_in(200, 100, 0, 80, 30, 10)
    x, y, width, height = content_box(image, ContentCrop(margin=0.5))
    assert (x, width, height) == (0, 60, 60)
    assert y + height == 100


def test_content_larger_than_the_other_side_takes_all_of_it():
    assert content_box(rectangle_in(200, 50, 40, 10, 100, 20), ContentCrop(margin=0)) == (40, 0, 100, 50)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (12, 200, 99)])
def test_an_image_without_content_stays_whole(colour):
    assert content_box(np.full((30, 50, 3), colour, np.uint8), ContentCrop()) == (0, 0, 50, 30)


def test_what_differs_within_the_tolerance_is_background():
    image = np.full((40, 40, 3), 200, np.uint8)
    image[10:20, 10:20, 1] = 188
    assert content_box(image, ContentCrop(tolerance=12)) == (0, 0, 40, 40)
    assert content_box(image, ContentCrop(tolerance=11, margin=0)) == (10, 10, 10, 10)


def test_the_crop_comes_before_the_resize_and_the_way_back_knows_it():
    image = rectangle_in(200, 100, 90, 20, 40, 20)
    spec = PreprocessingSpec(width=20, height=20, resize=Resize.STRETCH, crop=ContentCrop(margin=0))
    canvas, geometry = to_canvas(image, spec)
    assert canvas[5:15].min() == 255
    assert canvas[:4].max() == 0
    assert geometry.to_original(np.array([[0, 5, 20, 15]], np.float32)).tolist() == [[90, 20, 130, 40]]


@pytest.mark.real_data
def test_faces_are_cropped_to_the_figure(real_data):
    cropped = 0
    for path in sorted((real_data / "faces" / "s1").glob("*.png"))[:30]:
        image = decode_image(path.read_bytes())
        x, y, width, height = content_box(image, ContentCrop(margin=0))
        outside = np.ones(image.shape[:2], dtype=bool)
        outside[y : y + height, x : x + width] = False
        assert (image[outside] >= 255 - ContentCrop().tolerance).all(), path.name  # they are on white
        cropped += width < image.shape[1]
    assert cropped > 20
