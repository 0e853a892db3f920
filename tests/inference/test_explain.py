"""Saliency marks the source of the answer, in pixels of the original image, for every task."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.bundles import CLASSES, encode, filled, make_bundle, make_label_bundle, picture
from visionops.errors import ImageError, OptionError
from visionops.inference.bundle import Head
from visionops.inference.explain import Saliency, draw_saliency, explain
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing_spec import ContentCrop, PreprocessingSpec, Resize
from visionops.inference.settings import EngineName

RED_AT_2_1 = picture([("red", 2, 1)])


def peak(saliency: Saliency) -> tuple[int, int]:
    """Return x and y of the largest heat."""
    heat = saliency.heat()
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    return int(x), int(y)


@pytest.fixture
def labels(tmp_path):
    return Predictor(make_label_bundle(tmp_path / "labels"))


@pytest.fixture
def boxes(tmp_path):
    return Predictor(make_bundle(tmp_path / "boxes"))


@pytest.mark.parametrize("engine", list(EngineName))
def test_a_classifier_looks_at_the_colour_it_names(tmp_path, engine):
    predictor = Predictor(make_label_bundle(tmp_path / "labels"), engine)
    saliency, prediction = explain(predictor, RED_AT_2_1)
    assert prediction.to_dict() == predictor.predict(RED_AT_2_1).to_dict()
    heat = saliency.heat()
    assert heat.shape == (128, 128)
    assert heat.dtype == np.float32
    x, y = peak(saliency)
    assert 64 <= x < 96
    assert 32 <= y < 64
    assert heat[100:, :30].max() < 0.2 * heat.max()


def test_a_detector_looks_at_its_best_box(boxes):
    image = picture([("red", 2, 1), ("green", 0, 3)])
    image[96:, :32, 1] = 220  # the green one is weaker
    saliency, prediction = explain(boxes, image)
    assert prediction.labels()[0] == ("red", 1.0)
    x, y = peak(saliency)
    assert 64 <= x < 96
    assert 32 <= y < 64
    assert saliency.heat()[96:, :32].max() < 0.05 * saliency.heat().max()


def test_a_detector_that_finds_nothing_has_nothing_to_explain(boxes):
    saliency, prediction = explain(boxes, picture())
    assert prediction.labels() == []
    assert not saliency.grid.any()


def test_the_fall_is_in_log_odds_by_hand(tmp_path):
    predictor = Predictor(make_label_bundle(tmp_path / "labels", size=32, gain=4.0))
    image = filled((0, 0, 0))
    image[:, :16] = (204, 0, 0)  # the mean is 102 of 255
    saliency, _ = explain(predictor, image, grid=2)
    # Two patches on each side: the first from 0 to 24. 16 columns of 8 rows of the red remain.
    mean = (24 * 24 * 102 + 16 * 8 * 204) / 32**2 / 255
    # The log-odds of a softmax over (4 r, 0, 0) are 4 r - log 2.
    assert saliency.grid[0, 0] == pytest.approx(4 * (102 / 255 - mean), abs=1e-4)
    assert saliency.grid[1, 0] == pytest.approx(saliency.grid[0, 0], abs=1e-4)
    # The patch on the right, from 8 to 32, leaves 8 columns of the red complete, and the last 8 rows of 8 more.
    mean = (24 * 24 * 102 + (8 * 32 + 8 * 8) * 204) / 32**2 / 255
    assert saliency.grid[0, 1] == pytest.approx(4 * (102 / 255 - mean), abs=1e-4)


def test_what_speaks_against_the_answer_is_below_zero(labels):
    saliency, prediction = explain(labels, picture([("red", 0, 0), ("red", 1, 0), ("green", 3, 3)]))
    assert prediction.labels()[0][0] == "red"
    assert saliency.grid[0, 1] > 0 > saliency.grid[-1, -1]


def test_the_same_image_gives_the_same_saliency_as_bytes_or_pixels(labels):
    first, _ = explain(labels, RED_AT_2_1)
    again, _ = explain(labels, encode(RED_AT_2_1))
    np.testing.assert_array_equal(first.grid, again.grid)
    assert first.box == again.box


def test_an_attribute_can_be_explained_alone(tmp_path):
    heads = (Head(name="first", class_names=CLASSES), Head(name="second", class_names=("g", "b", "r")))
    predictor = Predictor(make_label_bundle(tmp_path / "labels", heads=heads))
    saliency, _ = explain(
        predictor,
        RED_AT_2_1,
        support=lambda ours, theirs: float(theirs.answers[1].probabilities[ours.answers[1].class_id]),
    )
    x, y = peak(saliency)
    assert 64 <= x < 96
    assert 32 <= y < 64


@pytest.mark.parametrize(
    ("resize", "box"),
    [
        (Resize.STRETCH, (0, 0, 256, 64)),
        (Resize.LETTERBOX, (0, 0, 256, 64)),
        (Resize.CENTER_CROP, (96, 0, 160, 64)),
    ],
)
def test_the_heat_lies_in_pixels_of_the_original(tmp_path, resize, box):
    spec = PreprocessingSpec(width=64, height=64, resize=resize, pad_value=0)
    predictor = Predictor(make_label_bundle(tmp_path / "labels", preprocessing=spec))
    image = np.zeros((64, 256, 3), np.uint8)
    image[32:, 112:128] = (255, 0, 0)
    saliency, _ = explain(predictor, image)
    assert saliency.box == pytest.approx(box)
    heat = saliency.heat()
    assert heat.shape == (64, 256)
    x, y = peak(saliency)
    assert 96 <= x < 144
    assert y >= 24
    outside = heat.copy()
    outside[box[1] : box[3], box[0] : box[2]] = 0
    assert not outside.any()


def test_the_patch_does_not_move_the_content_crop(tmp_path):
    spec = PreprocessingSpec(width=32, height=32, resize=Resize.STRETCH, crop=ContentCrop(margin=0))
    predictor = Predictor(make_label_bundle(tmp_path / "labels", preprocessing=spec))
    image = filled((255, 255, 255), width=100, height=100)
    image[40:60, 40:60] = (0, 0, 255)
    image[40:60, 40:50] = (255, 0, 0)
    saliency, _ = explain(predictor, image)
    assert saliency.box == (40, 40, 60, 60)
    assert not saliency.heat()[:40].any()


@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    resize=st.sampled_from(Resize),
    grid=st.integers(2, 9),
)
@settings(max_examples=40, deadline=None)
def test_any_size_can_be_explained_and_drawn(tmp_path_factory, width, height, resize, grid):
    spec = PreprocessingSpec(width=16, height=24, resize=resize)
    predictor = Predictor(
        make_label_bundle(tmp_path_factory.mktemp("labels"), preprocessing=spec), EngineName.ONNXRUNTIME
    )
    image = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    saliency, _ = explain(predictor, image, grid=grid)
    assert saliency.grid.shape == (grid, grid)
    heat = saliency.heat()
    assert heat.shape == (height, width)
    assert np.isfinite(heat).all()
    picture = draw_saliency(image, saliency)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8


def test_a_picture_is_grey_with_colour_where_the_heat_is(labels):
    saliency, _ = explain(labels, RED_AT_2_1)
    drawn = draw_saliency(RED_AT_2_1, saliency).astype(int)
    assert np.ptp(drawn, axis=2)[40:56, 72:88].min() > 50
    assert np.ptp(drawn, axis=2)[100:, :30].max() < 10


def test_a_picture_of_another_size_is_drawn_alike(labels):
    saliency, _ = explain(labels, RED_AT_2_1)
    small = draw_saliency(np.ascontiguousarray(RED_AT_2_1[::4, ::4]), saliency)
    assert small.shape == (32, 32, 3)
    assert np.ptp(small.astype(int), axis=2)[11:13, 19:21].min() > 50


def test_a_heat_next_to_nothing_is_drawn_faint():
    faint = Saliency(np.full((4, 4), 0.001, np.float32), (0, 0, 20, 20), 20, 20)
    assert np.abs(draw_saliency(filled((90, 90, 90), width=20, height=20), faint).astype(int) - 90).max() <= 3


def test_mistakes_of_the_caller_are_those_of_predict(labels, boxes):
    with pytest.raises(ImageError, match="upload: not a readable image"):
        explain(labels, b"text", where="upload")
    with pytest.raises(OptionError, match="confidence"):
        explain(labels, RED_AT_2_1, {"confidence": 0.5})
    _, prediction = explain(boxes, RED_AT_2_1, {"confidence": 1.0})
    assert prediction.labels() == []
