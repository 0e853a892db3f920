"""A large image in tiles: every defect once, wherever the borders of the tiles lie."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers.bundles import CELL, encode, make_bundle, make_extent_bundle, picture
from visionops.config import Engine
from visionops.errors import ImageError
from visionops.inference.bundle import Thresholds
from visionops.inference.explain import explain
from visionops.inference.image import ImageProblem
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import ContentCrop, PreprocessingSpec, Resize, Tiling, Window
from visionops.inference.tiling import merge_tiles, tile_windows

SIZE, OVERLAP = 64, 16
TILES = Tiling(size=SIZE, overlap=OVERLAP)


# Where tiles lie


@given(st.integers(1, 700), st.integers(1, 700), st.integers(32, 200), st.data())
def test_tiles_cover_the_image_and_stay_inside(width, height, size, data):
    tiling = Tiling(size=size, overlap=data.draw(st.integers(1, size // 2)), max_tiles=10**6)
    windows = tile_windows(width, height, tiling)
    assert len(set(windows)) == len(windows)
    seen = np.zeros((height, width), bool)
    for w in windows:
        assert (w.width, w.height) == (min(size, width), min(size, height))
        assert 0 <= w.x <= width - w.width
        assert 0 <= w.y <= height - w.height
        seen[w.y : w.y + w.height, w.x : w.x + w.width] = True
    assert seen.all()
    for starts in (sorted({w.x for w in windows}), sorted({w.y for w in windows})):
        assert all(b - a <= size - tiling.overlap for a, b in itertools.pairwise(starts))


def test_the_last_column_and_row_are_moved_back_inside():
    windows = tile_windows(2456, 1176, Tiling(size=640, overlap=128))
    assert sorted({w.x for w in windows}) == [0, 512, 1024, 1536, 1816]
    assert sorted({w.y for w in windows}) == [0, 512, 536]
    assert len(windows) == 15


@pytest.mark.parametrize(("width", "height"), [(64, 64), (1, 64), (63, 5)])
def test_what_is_no_larger_than_a_tile_is_one(width, height):
    assert tile_windows(width, height, TILES) == (Window(0, 0, width, height),)


def test_an_image_of_too_many_tiles_is_refused(tmp_path):
    predictor = Predictor(make_extent_bundle(tmp_path / "b", SIZE, Tiling(size=64, overlap=16, max_tiles=6)))
    predictor.predict(np.zeros((112, 160, 3), np.uint8))
    with pytest.raises(
        ImageError, match=r"^big: 161 x 112 pixels take 8 tiles of 64, over the model's limit of 6"
    ) as e:
        predictor.predict(np.zeros((112, 161, 3), np.uint8), where="big")
    assert e.value.kind == ImageProblem.TOO_LARGE


@pytest.mark.parametrize("wrong", [{"overlap": 33}, {"overlap": 0}, {"size": 31, "overlap": 4}, {"max_tiles": 0}])
def test_tiles_that_do_not_advance_are_refused(wrong):
    with pytest.raises(ValidationError):
        Tiling.model_validate({"size": 64, "overlap": 16, **wrong})


@pytest.mark.parametrize("other", [{"crop": ContentCrop()}, {"resize": Resize.CENTER_CROP}])
def test_tiles_are_shown_whole(other):
    with pytest.raises(ValidationError, match="tiles are shown whole"):
        PreprocessingSpec(width=64, height=64, tiles=TILES, **other)


# What comes out


@pytest.fixture(scope="module")
def extents(tmp_path_factory):
    """Sees the exact extent of what a tile shows."""
    return Predictor(make_extent_bundle(tmp_path_factory.mktemp("b") / "b", SIZE, TILES), Engine.ONNXRUNTIME)


@st.composite
def rectangles(draw):
    """An image up to five tiles wide, not enlarged to the input, and a rectangle in it: xyxy."""
    width, height = draw(st.integers(SIZE, 270)), draw(st.integers(1, 200))
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return width, height, (x, y, draw(st.integers(x + 1, width)), draw(st.integers(y + 1, height)))


def found(predictor, image):
    prediction = predictor.predict(image)
    assert (prediction.width, prediction.height) == (image.shape[1], image.shape[0])
    return [(int(c), *map(float, b)) for c, b in zip(prediction.class_ids, prediction.boxes, strict=True)]


@settings(max_examples=150, deadline=None)
@given(rectangles())
def test_a_defect_of_any_size_anywhere_is_found_once_and_to_the_pixel(extents, drawn):
    width, height, (x1, y1, x2, y2) = drawn
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2, 1] = 255
    assert found(extents, image) == [(1, x1, y1, x2, y2)]


@pytest.mark.parametrize("across", [47, 48, 49, 63, 64, 65, 95, 96, 111, 112, 113])
@pytest.mark.parametrize("down", [40, 48, 56, 64])
def test_a_defect_on_borders_and_corners_of_tiles_is_found_once(extents, across, down):
    image = np.zeros((200, 200, 3), np.uint8)
    image[down - 5 : down + 5, across - 5 : across + 5, 0] = 255
    image[down - 2 : down + 2, 20:180, 2] = 255  # a scratch through every tile of the row
    assert sorted(found(extents, image)) == [
        (0, across - 5, down - 5, across + 5, down + 5),
        (2, 20, down - 2, 180, down + 2),
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(4, 12),
    st.integers(4, 9),
    st.sampled_from([32, 64]),
    st.sets(st.tuples(st.sampled_from(["red", "green", "blue"]), st.integers(0, 11), st.integers(0, 8)), max_size=40),
)
def test_neighbours_stay_apart(tmp_path_factory, columns, rows, overlap, cells):
    """A detector of many boxes: cells that touch are as many defects, in however many tiles they lie."""
    cells = {(c, x, y) for c, x, y in cells if x < columns and y < rows}
    cells = list({(x, y): (c, x, y) for c, x, y in sorted(cells)}.values())
    image = picture(cells, width=columns * CELL, height=rows * CELL)
    prediction = cells_in_tiles(tmp_path_factory, overlap).predict(image)
    names = ("red", "green", "blue")
    got = [
        (names[c], int(b[0]) // CELL, int(b[1]) // CELL)
        for c, b in zip(prediction.class_ids, prediction.boxes, strict=True)
    ]
    assert sorted(got) == sorted(cells)
    assert (prediction.boxes[:, 2:] - prediction.boxes[:, :2] == CELL).all()


_MADE: dict[int, Predictor] = {}


def cells_in_tiles(tmp_path_factory, overlap):
    if overlap not in _MADE:
        tiles = Tiling(size=128, overlap=overlap)
        _MADE[overlap] = Predictor(make_bundle(tmp_path_factory.mktemp("cells") / "b", tiles=tiles), Engine.ONNXRUNTIME)
    return _MADE[overlap]


@pytest.mark.parametrize("engine", list(Engine))
@pytest.mark.parametrize("end2end", [False, True])
def test_both_engines_and_both_heads_work_in_tiles(tmp_path, engine, end2end):
    bundle = make_bundle(tmp_path / "b", end2end=end2end, tiles=Tiling(size=128, overlap=64))
    scene = [("red", 2, 1), ("blue", 3, 1), ("red", 8, 5)]
    prediction = Predictor(bundle, engine).predict(encode(picture(scene, width=320, height=256)))
    assert sorted(prediction.boxes[:, :2].tolist()) == [[64, 32], [96, 32], [256, 160]]


def test_a_tile_is_scaled_to_the_input(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "b", size=128, tiles=Tiling(size=64, overlap=32)))
    image = picture([("red", 1, 1), ("red", 5, 3)], width=256, height=256)[::2, ::2]
    assert sorted(predictor.predict(image).boxes.tolist()) == [[16, 16, 32, 32], [80, 48, 96, 64]]


def test_a_small_image_answers_as_without_tiles(tmp_path):
    image = picture([("red", 2, 1)], width=128, height=96)
    tiled, whole = (
        Predictor(make_bundle(tmp_path / str(n), tiles=tiles)).predict(image).to_dict()
        for n, tiles in enumerate((Tiling(size=128, overlap=64), None))
    )
    assert tiled == whole


def test_the_same_image_gives_the_same_bytes(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "b", box_scale=1.3, tiles=Tiling(size=128, overlap=64)))
    image = np.random.default_rng(0).integers(0, 256, (400, 500, 3)).astype(np.uint8)
    first, second = (predictor.predict(image, {"confidence": 0.0}) for _ in range(2))
    assert len(first.boxes) > 20
    assert json.dumps(first.to_dict()) == json.dumps(second.to_dict())


def test_options_and_the_most_detections_hold_for_the_whole_image(tmp_path):
    scene = [("red", x, y) for x in range(10) for y in range(6)]
    image = picture(scene, width=320, height=192)
    bundle = make_bundle(tmp_path / "b", tiles=Tiling(size=128, overlap=64))
    assert len(Predictor(bundle).predict(image).boxes) == 60
    assert len(Predictor(bundle, thresholds=Thresholds(max_detections=7)).predict(image).boxes) == 7
    assert not len(Predictor(bundle).predict(image, {"confidence": 1.0}).boxes)


def test_the_registered_model_answers_in_tiles(tmp_path):
    from visionops.pyfunc import VisionOpsModel

    predictor = Predictor(make_bundle(tmp_path / "b", tiles=Tiling(size=128, overlap=64)))
    image = encode(picture([("red", 7, 4), ("blue", 2, 1)], width=320, height=256))
    expected = {"width": 320, "height": 256, **predictor.predict(image).to_dict()}
    assert len(expected["detections"]) == 2
    assert VisionOpsModel(predictor).predict([image]) == [expected]


def test_the_time_of_all_tiles_is_told(extents):
    timing: dict[str, float] = {}
    extents.predict(encode(np.zeros((200, 200, 3), np.uint8)), timing=timing)
    assert set(timing) == {"decode", "preprocess", "inference", "postprocess"}
    assert all(isinstance(span, float) for span in timing.values())


def test_a_tiled_answer_is_explained_in_its_best_tile(tmp_path):
    predictor = Predictor(make_bundle(tmp_path / "b", tiles=Tiling(size=128, overlap=64)))
    image = picture([("red", 7, 4)], width=320, height=256)
    image[:CELL, :CELL, 2] = 230  # a weaker one elsewhere
    saliency, prediction = explain(predictor, image)
    assert prediction.to_dict() == predictor.predict(image).to_dict()
    assert len(prediction.boxes) == 2
    assert (saliency.width, saliency.height) == (320, 256)
    x1, y1, x2, y2 = saliency.box
    assert (x2 - x1, y2 - y1) == (128, 128)
    heat = saliency.heat()
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 7 * CELL <= x < 8 * CELL
    assert 4 * CELL <= y < 5 * CELL


# The rule, where a real detector is not exact

LEFT, RIGHT = Window(0, 0, 100, 100), Window(60, 0, 100, 100)  # both see x from 60 to 100


def merged(left, right, max_detections=300):
    """Each box as (score, class, x1, y1, x2, y2)."""
    columns = [
        (
            np.array([b[2:] for b in part], np.float32).reshape(-1, 4),
            np.array([b[0] for b in part], np.float32),
            np.array([b[1] for b in part], np.int32),
        )
        for part in (left, right)
    ]
    boxes, scores, class_ids = merge_tiles(columns, [LEFT, RIGHT], max_detections)
    assert (boxes.dtype, scores.dtype, class_ids.dtype) == (np.float32, np.float32, np.int32)
    return [(round(float(s), 3), int(c), *b) for s, c, b in zip(scores, class_ids, boxes.tolist(), strict=True)]


def test_a_piece_gives_way_to_the_whole_and_leaves_its_score():
    assert merged([(0.9, 0, 92, 10, 100, 30)], [(0.6, 0, 91, 10, 112, 31)]) == [(0.9, 0, 91, 10, 112, 31)]


def test_of_two_whole_boxes_the_better_stays():
    assert merged([(0.6, 0, 70, 10, 90, 30)], [(0.9, 0, 72, 11, 91, 31)]) == [(0.9, 0, 72, 11, 91, 31)]


def test_two_ends_longer_than_the_overlap_become_one():
    """Their IoU is 0.25 and the intersection over the smaller area 0.42: neither says that they are one."""
    assert merged([(0.7, 0, 3, 40, 100, 52)], [(0.8, 0, 60, 41, 155, 52)]) == [(0.8, 0, 3, 40, 155, 52)]


def test_a_small_defect_inside_a_large_one_stays():
    large, small = (0.8, 0, 62, 5, 96, 90), (0.5, 0, 70, 20, 80, 30)
    assert merged([large, small], [large, small]) == [large, small]
    assert merged([large], [small]) == [large, small]


def test_classes_are_not_merged():
    assert len(merged([(0.9, 0, 70, 10, 90, 30)], [(0.6, 1, 70, 10, 90, 30)])) == 2


def test_two_boxes_are_one_object_or_two_wherever_the_borders_lie():
    """A detector's own NMS (IoU 0.7) leaves the first pair, IoU 0.57, in a tile as it does in two."""
    better, again, apart = (0.9, 0, 70, 10, 90, 30), (0.7, 0, 74, 10, 96, 28), (0.5, 0, 83, 10, 97, 30)
    for left, right in (([better, again], []), ([better], [again]), ([better, again], [better, again])):
        assert merged(left, right) == [better]
    for left, right in (([better, apart], []), ([better], [apart]), ([better, apart], [better, apart])):
        assert merged(left, right) == [better, apart]


def test_a_sliver_with_inexact_edges_belongs_to_its_whole():
    """The right tile sees x from 60: 5 pixels of the pit, and says 12."""
    assert merged([(0.9, 0, 44, 10, 65, 30)], [(0.6, 0, 60, 10, 72, 30)]) == [(0.9, 0, 44, 10, 65, 30)]


def test_a_neighbour_that_reaches_into_a_tile_by_a_pixel_stays_apart():
    """In the pixels that both tiles saw, the first box is a sliver inside the second."""
    first, second = (0.9, 0, 41, 10, 62, 30), (0.8, 0, 60, 9, 80, 31)
    assert merged([first], [second]) == [first, second]


def test_the_best_stay_best_first():
    boxes = [(0.5, 0, 0, 0, 9, 9), (0.4, 0, 20, 0, 29, 9)]
    assert merged(boxes, [(0.9, 0, 120, 0, 130, 9)], 2) == [(0.9, 0, 120, 0, 130, 9), (0.5, 0, 0, 0, 9, 9)]


def test_nothing_found_is_nothing_merged():
    assert merged([], []) == []
