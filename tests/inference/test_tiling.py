"""A large image in tiles: every defect is found once, wherever the borders of the tiles are."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers.bundles import CELL, encode, make_bundle, make_extent_bundle, picture
from visionops.data.layers import Boxes
from visionops.errors import ImageError
from visionops.inference.bundle import Thresholds
from visionops.inference.explain import explain
from visionops.inference.image import ImageProblem
from visionops.inference.nms import suppress
from visionops.inference.predictor import Predictor
from visionops.inference.preprocessing import Window
from visionops.inference.preprocessing_spec import ContentCrop, PreprocessingSpec, Resize, Tiling
from visionops.inference.settings import EngineName
from visionops.inference.tiling import WEAKEST_PART, merge_tiles, tile_windows
from visionops.tasks.detection.prediction import BoxPrediction
from visionops.tasks.detection.scoring import score

SIZE, OVERLAP = 64, 16
TILES = Tiling(size=SIZE, overlap=OVERLAP)


# Placement of tiles


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
    with pytest.raises(ValidationError, match="tiles need resize"):
        PreprocessingSpec(width=64, height=64, tiles=TILES, **other)


# Merged results


@pytest.fixture(scope="module")
def extents(tmp_path_factory):
    """Return a model that finds the exact extent of an object in a tile."""
    return Predictor(make_extent_bundle(tmp_path_factory.mktemp("b") / "b", SIZE, TILES), EngineName.ONNXRUNTIME)


@st.composite
def rectangles(draw):
    """Draw an image up to five tiles wide, not enlarged to the input, with a rectangle in it: xyxy."""
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
    """For a detector of many boxes, adjacent cells are separate defects, in any number of tiles."""
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
        _MADE[overlap] = Predictor(
            make_bundle(tmp_path_factory.mktemp("cells") / "b", tiles=tiles), EngineName.ONNXRUNTIME
        )
    return _MADE[overlap]


@pytest.mark.parametrize("engine", list(EngineName))
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


def test_the_time_of_all_tiles_is_reported(extents):
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


# Merging for inexact detectors

LEFT, RIGHT = Window(0, 0, 100, 100), Window(60, 0, 100, 100)  # both tiles have x from 60 to 100


def detections(boxes):
    """Return each box as (score, class, x1, y1, x2, y2)."""
    return (
        np.array([b[2:] for b in boxes], np.float32).reshape(-1, 4),
        np.array([b[0] for b in boxes], np.float32),
        np.array([b[1] for b in boxes], np.int32),
    )


def rows(answer):
    """Return the inverse of `detections`."""
    boxes, scores, class_ids = answer
    assert (boxes.dtype, scores.dtype, class_ids.dtype) == (np.float32, np.float32, np.int32)
    return [(round(float(s), 3), int(c), *b) for s, c, b in zip(scores, class_ids, boxes.tolist(), strict=True)]


def merged(left, right, max_detections=300):
    return rows(merge_tiles([detections(left), detections(right)], [LEFT, RIGHT], max_detections))


def test_a_piece_gives_way_to_the_whole_and_leaves_its_score():
    assert merged([(0.9, 0, 92, 10, 100, 30)], [(0.6, 0, 91, 10, 112, 31)]) == [(0.9, 0, 91, 10, 112, 31)]


def test_of_two_whole_boxes_the_better_stays():
    assert merged([(0.6, 0, 70, 10, 90, 30)], [(0.9, 0, 72, 11, 91, 31)]) == [(0.9, 0, 72, 11, 91, 31)]


def test_two_ends_longer_than_the_overlap_become_one():
    """Their IoU is 0.25 and the intersection over the smaller area 0.42; neither reaches a threshold."""
    assert merged([(0.7, 0, 3, 40, 100, 52)], [(0.8, 0, 60, 41, 155, 52)]) == [(0.8, 0, 3, 40, 155, 52)]


def test_a_small_defect_inside_a_large_one_stays():
    large, small = (0.8, 0, 62, 5, 96, 90), (0.5, 0, 70, 20, 80, 30)
    assert merged([large, small], [large, small]) == [large, small]
    assert merged([large], [small]) == [large, small]


def test_classes_are_not_merged():
    assert len(merged([(0.9, 0, 70, 10, 90, 30)], [(0.6, 1, 70, 10, 90, 30)])) == 2


def test_boxes_of_one_tile_stay_apart_and_those_of_two_are_one():
    """The NMS of a tile (IoU 0.7) has kept both with an IoU of 0.57, so the result equals that without tiles."""
    better, again = (0.9, 0, 70, 10, 90, 30), (0.7, 0, 74, 10, 96, 28)
    assert merged([better, again], []) == [better, again]
    assert merged([better], [again]) == [better]
    assert merged([better, again], [better, again]) == [better, again]


def test_a_sliver_with_inexact_edges_belongs_to_its_whole():
    """The right tile starts at x 60: it has 5 pixels of the pit and detects 12."""
    assert merged([(0.9, 0, 44, 10, 65, 30)], [(0.6, 0, 60, 10, 72, 30)]) == [(0.9, 0, 44, 10, 65, 30)]


def test_a_neighbour_that_reaches_into_a_tile_by_a_pixel_stays_apart():
    """In the pixels of both tiles, the first box is a sliver inside the second."""
    first, second = (0.9, 0, 41, 10, 62, 30), (0.8, 0, 60, 9, 80, 31)
    assert merged([first], [second]) == [first, second]


def test_the_best_stay_best_first():
    boxes = [(0.5, 0, 0, 0, 9, 9), (0.4, 0, 20, 0, 29, 9)]
    assert merged(boxes, [(0.9, 0, 120, 0, 130, 9)], 2) == [(0.9, 0, 120, 0, 130, 9), (0.5, 0, 0, 0, 9, 9)]


def test_nothing_found_is_nothing_merged():
    assert merged([], []) == []


def test_a_weak_box_between_two_sure_ones_takes_neither_away():
    """Joining all connected boxes would make one object of them."""
    one, other, between = (0.9, 0, 60, 0, 80, 40), (0.85, 0, 70, 0, 90, 40), (0.3, 0, 65, 0, 85, 40)
    assert merged([one, other], []) == [one, other]
    assert merged([one, other, between], []) == [one, other, between]
    assert merged([one, other], [between]) == [one, other]
    assert merged([one, other], [one, other, between]) == [one, other]


def test_a_much_weaker_piece_does_not_move_a_sure_one():
    sure = (0.9, 0, 3, 40, 100, 52)
    assert merged([sure], [(0.3, 0, 60, 41, 155, 52)]) == [(0.9, 0, 3, 40, 155, 52)]
    assert merged([sure], [(0.2, 0, 60, 41, 155, 52)]) == [sure]
    assert merged([(0.9, 0, 92, 10, 100, 30)], [(0.2, 0, 91, 10, 112, 31)]) == [(0.9, 0, 92, 10, 100, 30)]


def test_a_box_that_only_seems_whole_does_not_stand_for_a_long_object():
    """The right tile's piece ends 4 pixels before its border, by inexact edges, so it does not match the left
    tile's."""
    assert merged([(0.9, 0, 3, 40, 100, 52)], [(0.8, 0, 66, 40, 150, 52)]) == [(0.9, 0, 3, 40, 100, 52)]


ROW = [Window(0, 0, 100, 100), Window(60, 0, 100, 100), Window(120, 0, 100, 100)]
ENDS_AND_MIDDLE = [[(0.9, 0, 5, 40, 100, 50)], [(0.5, 0, 60, 40, 160, 50)], [(0.8, 0, 120, 40, 215, 50)]]


def test_the_ends_of_a_long_object_are_one_though_the_piece_between_them_is_weaker():
    found = [detections(part) for part in ENDS_AND_MIDDLE]
    whole, end = (0.9, 0, 5, 40, 215, 50), (0.8, 0, 120, 40, 215, 50)
    assert rows(merge_tiles(found, ROW, 300, confidence=0.0)) == [whole]
    assert rows(merge_tiles(found, ROW, 300, confidence=0.6)) == [whole]
    assert rows(merge_tiles(found, ROW, 300)) == [whole, end]  # as above 0.5, where nothing is between the ends
    found[1] = detections([(0.2, *ENDS_AND_MIDDLE[1][0][1:])])
    assert rows(merge_tiles(found, ROW, 300, confidence=0.0)) == [ENDS_AND_MIDDLE[0][0], end]


def test_two_objects_of_one_tile_are_not_pieces_of_one():
    """The right tile's box covers both. With any score in between, it is a piece of only the better one."""
    over = (0.7, 0, 60, 30, 150, 60)
    for second in (0.8, 0.6):
        left = [(0.9, 0, 62, 30, 100, 44), (second, 0, 62, 46, 100, 60)]
        for confidence in (None, 0.0):
            found = [detections(left), detections([over])]
            got = rows(merge_tiles(found, [LEFT, RIGHT], 300, confidence=confidence))
            assert got == [(0.9, 0, 60, 30, 150, 60), left[1]]


def test_an_object_is_extended_by_one_piece_of_a_tile():
    left, right = (0.9, 0, 3, 30, 100, 60), [(0.8, 0, 60, 30, 150, 52), (0.7, 0, 60, 42, 158, 60)]
    assert merged([left], right) == [(0.9, 0, 3, 30, 150, 60)]


def test_a_box_joins_the_object_that_it_agrees_with_best():
    left = [(0.9, 0, 3, 10, 100, 40), (0.8, 0, 3, 20, 100, 50)]
    assert merged(left, [(0.7, 0, 60, 20, 150, 48)]) == [left[0], (0.8, 0, 3, 20, 150, 50)]


# Properties for any detections in tiles

GRID = tuple(Window(x, y, 64, 64) for y in (0, 44) for x in (0, 48, 96, 112))


@st.composite
def anything(draw):
    """Return detections of eight tiles that share up to 48 pixels: objects complete and cut, inexact, repeated,
    crowded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, crowd = draw(st.integers(0, 12)), draw(st.sampled_from([1, 4, 12]))
    levels = draw(st.sampled_from([4, 1000]))  # few values, so many scores are equal
    corner = rng.uniform((0, 0), (170, 100), (count, 2)) / rng.choice([1, 3])
    objects = np.hstack([corner, corner + rng.choice([6, 12, 24, 80], (count, 2)) * rng.uniform(0.7, 1.3, (count, 2))])
    classes = rng.integers(0, 2, count)
    found = []
    for w in GRID:
        low, high = np.array([w.x, w.y] * 2), np.array([w.x + w.width, w.y + w.height] * 2)
        seen = np.clip(objects, low, high)
        shown = np.flatnonzero((seen[:, 2:] - seen[:, :2] > 1).all(axis=1)) if count else np.empty(0, int)
        row = np.repeat(shown, rng.integers(0, crowd + 1, len(shown)))
        sides = np.tile(seen[row, 2:] - seen[row, :2], 2)
        boxes = np.clip(seen[row] + rng.normal(0, rng.choice([0, 0.05, 0.2]), (len(row), 4)) * sides, low, high)
        boxes = np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])])
        scores = np.sort(np.ceil(rng.uniform(0, 1, len(row)) * levels) / levels)[::-1]
        found.append((boxes.astype(np.float32), scores.astype(np.float32), classes[row].astype(np.int32)))
    return found


def above(found, threshold):
    return [tuple(column[part[1] > np.float64(threshold)] for column in part) for part in found]


def outcome(answer):
    """Return score and class of each object, in order."""
    return list(zip(answer[1].tolist(), answer[2].tolist(), strict=True))


@settings(max_examples=150, deadline=None)
@given(anything(), st.floats(0, 1), st.floats(0, 1))
def test_a_lower_threshold_removes_no_object(found, one, other):
    low, high = sorted((one, other))
    more, fewer = (outcome(merge_tiles(above(found, t), GRID, 10_000)) for t in (low, high))
    assert [item for item in more if item[0] > high] == fewer


@settings(max_examples=150, deadline=None)
@given(anything(), st.floats(0, 1), st.floats(0, 1))
def test_the_answer_at_a_threshold_is_a_part_of_that_at_a_lower_one(found, one, other):
    """Boxes, too: weaker objects neither remove, add nor move those above the threshold."""
    low, high = sorted((one, other))
    more, fewer = (merge_tiles(above(found, WEAKEST_PART * t), GRID, 10_000, confidence=t) for t in (low, high))
    assert (fewer[1] > np.float64(high)).all()
    for wide, narrow in zip(above([more], high)[0], fewer, strict=True):
        np.testing.assert_array_equal(wide, narrow)


@pytest.mark.parametrize("end2end", [False, True])
def test_a_detector_answers_at_a_threshold_a_part_of_what_it_answers_at_a_lower_one(tmp_path, end2end):
    tiles = Tiling(size=128, overlap=48)
    predictor = Predictor(make_bundle(tmp_path / "b", box_scale=1.6, end2end=end2end, tiles=tiles))
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    image = np.kron(image[::20, ::20], np.ones((20, 20, 1), np.uint8))
    lowest, *others = (predictor.predict(image, {"confidence": c}) for c in (0.0, 0.02, 0.1, 0.3))
    assert len(lowest.boxes) > 30
    for confidence, answer in zip((0.02, 0.1, 0.3), others, strict=True):
        stay = lowest.scores > np.float64(confidence)
        assert 0 < len(answer.boxes) < len(lowest.boxes)
        np.testing.assert_array_equal(answer.boxes, lowest.boxes[stay])
        np.testing.assert_array_equal(answer.scores, lowest.scores[stay])


@pytest.mark.parametrize("gap", [10, 0, -12])
def test_parts_in_a_row_score_in_a_tile_as_without_tiles(gap):
    """Evaluation uses all boxes above 0.001. Those between two parts used to merge them, and AP50 fell from 1 to
    0.2."""
    windows = tile_windows(1000, 640, Tiling(size=640, overlap=128))
    truth, once, tiled = [], [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        parts = np.array([(x, 100, x + 60, 160) for x in 40 + np.arange(5) * (60 + gap)], np.float64)
        off = rng.normal(0, (18, 6), (5, 26, 2))
        off[:, 0] = 0
        boxes = (parts[:, None] + np.tile(off, 2)).reshape(-1, 4).astype(np.float32)
        scores = 0.6 * np.exp(-np.abs(off).sum(axis=2) / 7) * rng.uniform(0.3, 1, (5, 26))
        scores[:, 0] = rng.uniform(0.6, 0.95, 5)
        every = scores.ravel().astype(np.float32)
        stay = suppress(boxes, every, np.zeros(130, np.int32), 0.7, 300)
        found = (boxes[stay], every[stay], np.zeros(len(stay), np.int32))
        assert len(stay) > 20
        truth.append(Boxes(parts, np.zeros(5, np.int32)))
        once.append(BoxPrediction(1000, 640, *found, ("part",)))
        tiled.append(BoxPrediction(1000, 640, *merge_tiles([found, detections([])], windows, 300), ("part",)))
    assert score(truth, once, 1).ap50[0] == score(truth, tiled, 1).ap50[0] == 1.0


@settings(max_examples=100, deadline=None)
@given(anything(), st.permutations(range(len(GRID))), st.sampled_from([None, 0.3]))
def test_the_order_of_tiles_does_not_matter(found, order, confidence):
    straight = merge_tiles(found, GRID, 10_000, confidence=confidence)
    mixed = merge_tiles([found[i] for i in order], [GRID[i] for i in order], 10_000, confidence=confidence)
    for one, other in zip(straight, mixed, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=100, deadline=None)
@given(anything(), st.integers(0, len(GRID) - 1), st.integers(1, 20))
def test_the_boxes_of_one_tile_come_back_as_they_are(found, tile, most):
    """For a single tile, or where only one of many has detections."""
    only = found[tile]
    nothing = detections([])
    for some, windows in (([only], GRID[tile : tile + 1]), ([only if i == tile else nothing for i in range(8)], GRID)):
        for one, other in zip(merge_tiles(some, windows, most), only, strict=True):
            np.testing.assert_array_equal(one, other[:most])


@settings(max_examples=100, deadline=None)
@given(anything(), st.sampled_from([None, 0.0]))
def test_what_one_tile_alone_sees_is_not_changed(found, confidence):
    boxes, scores, class_ids = merge_tiles(found, GRID, 10_000, confidence=confidence)
    got = Counter(map(tuple, np.column_stack([boxes, scores, class_ids]).tolist()))
    alone: Counter[tuple[float, ...]] = Counter()
    for w, part in zip(GRID, found, strict=True):
        others = np.array([(o.x, o.y, o.x + o.width, o.y + o.height) for o in GRID if o != w])
        touches = (part[0][:, None, :2] < others[:, 2:]) & (part[0][:, None, 2:] > others[:, :2])
        mine = ~touches.all(axis=2).any(axis=1)
        alone.update(map(tuple, np.column_stack(part)[mine].tolist()))
    assert alone <= got


@settings(max_examples=100, deadline=None)
@given(anything())
def test_an_object_that_is_left_out_lies_in_a_better_one(found):
    """Where pieces of an object are merged, a better object of the class contains all of them, or half and more."""
    everything = merge_tiles(found, GRID, 10_000)
    boxes, scores, class_ids = merge_tiles(found, GRID, 10_000, confidence=0.0)
    given_boxes = np.concatenate([part[0] for part in found])
    assert np.isin(boxes, given_boxes).all()
    for box, best, class_id in zip(*everything, strict=True):
        over = (boxes[:, :2] < box[2:]) & (boxes[:, 2:] > box[:2])
        assert ((class_ids == class_id) & (scores >= best) & over.all(axis=1)).any()


def test_the_most_boxes_of_the_most_tiles_are_merged():
    """300 boxes in each of 72 tiles, crowded: 21,600 boxes."""
    windows = tile_windows(2456, 1176, Tiling(size=256, overlap=48))
    rng = np.random.default_rng(0)
    found = []
    for w in windows:
        corner = rng.uniform(0, 230, (300, 2)) + np.array([w.x, w.y])
        boxes = np.hstack([corner, corner + rng.uniform(10, 26, (300, 2))]).astype(np.float32)
        found.append((boxes, np.sort(rng.uniform(0, 1, 300)).astype(np.float32)[::-1], np.zeros(300, np.int32)))
    _, scores, _ = merge_tiles(found, windows, 300, confidence=0.0)
    assert len(scores) == 300
    assert (np.diff(scores) <= 0).all()
