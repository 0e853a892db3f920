"""Tiles of large images for the training of a detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from tests.helpers.disks import mounted
from visionops.data.dataset import Dataset
from visionops.data.layers import Boxes
from visionops.data.settings import TrainingTiles
from visionops.data.tiles import boxes_in_tile, cut_tiles
from visionops.errors import DataError, ImageError
from visionops.inference.preprocessing import Window
from visionops.inference.tiling import tile_windows

ALL = TrainingTiles(size=64, overlap=16, keep_empty=1.0)


def images(folder: Path, sizes, boxes=(), splits=None) -> Dataset:
    """Return noise images; ``boxes`` as (image, class id, x1, y1, x2, y2)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for row, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(row).integers(0, 256, (height, width, 3)).astype(np.uint8)
        paths.append(folder / f"{row}.png")
        Image.fromarray(pixels).save(paths[-1])
    names = ("image", "class_id", "x1", "y1", "x2", "y2")
    columns = dict(zip(names, zip(*boxes, strict=True), strict=True)) if boxes else {}
    keys = [f"lot/{path.name}" for path in paths]
    split = list(splits or ["train"] * len(paths))
    return Dataset.from_columns("d", ["a", "b"], {"key": keys, "path": list(map(str, paths)), "split": split}, columns)


def test_tiles_are_the_windows_of_serving_with_their_very_pixels(tmp_path):
    dataset = images(tmp_path / "in", [(150, 100)])
    tiled = cut_tiles(dataset, ALL, tmp_path / "out", seed=0)
    original = np.asarray(Image.open(tmp_path / "in" / "0.png"))
    windows = tile_windows(150, 100, ALL.tiling)
    assert tiled.num_images == len(windows) == 6
    for window, path, key in zip(windows, tiled.paths(), tiled.column("key"), strict=True):
        part = original[window.y : window.y + window.height, window.x : window.x + window.width]
        np.testing.assert_array_equal(np.asarray(Image.open(path)), part)
        assert key == f"lot/0.png/{window.x}-{window.y}.png"
    assert set(tiled.column("width")) == set(tiled.column("height")) == {64}


def test_an_image_no_larger_than_a_tile_stays_as_it_is(tmp_path):
    dataset = images(tmp_path / "in", [(64, 40)], [(0, 1, 3, 4, 20, 30)])
    tiled = cut_tiles(dataset, ALL, tmp_path / "out", seed=0)
    assert tiled.paths() == dataset.paths()
    assert tiled.column("key") == dataset.column("key")
    assert tiled.boxes_of(0).xyxy.tolist() == [[3, 4, 20, 30]]


def test_only_what_the_trainer_reads_is_cut(tmp_path):
    dataset = images(tmp_path / "in", [(60, 60)] * 4, splits=["test", "train", "val", "unlabelled"])
    assert cut_tiles(dataset, ALL, tmp_path / "out", seed=0).column("split") == ["train", "val"]


def test_boxes_come_in_pixels_of_their_tile(tmp_path):
    dataset = images(
        tmp_path / "in", [(112, 64)], [(0, 0, 10, 10, 30, 30), (0, 1, 40, 5, 62, 15), (0, 0, 90, 50, 99, 60)]
    )
    tiled = cut_tiles(dataset, TrainingTiles(size=64, overlap=16, min_visible=0.5), tmp_path / "out", seed=0)
    left, right = tiled.boxes_by_image()
    assert left.xyxy.tolist() == [[10, 10, 30, 30], [40, 5, 62, 15]]
    assert right.xyxy.tolist() == [[0, 5, 14, 15], [42, 50, 51, 60]]  # 14 of 22 columns of the second box are visible
    assert right.class_ids.tolist() == [1, 0]


def test_a_remainder_is_left_out_and_its_tile_is_not_empty(tmp_path):
    dataset = images(tmp_path / "in", [(112, 64)], [(0, 0, 30, 10, 50, 30)])  # two columns are in the second tile
    tiled = cut_tiles(dataset, ALL, tmp_path / "out", seed=0)
    assert tiled.column("key") == ["lot/0.png/0-0.png"]


@settings(max_examples=60)
@given(st.integers(0, 180), st.integers(0, 90), st.integers(1, 16), st.integers(1, 16))
def test_a_box_up_to_the_overlap_is_whole_in_some_tile(x, y, width, height):
    boxes = Boxes(np.array([[x, y, x + width, y + height]], float), np.array([1], np.int32))
    shown = [boxes_in_tile(boxes, window, 1.0)[0].xyxy for window in tile_windows(200, 110, ALL)]
    assert sum(map(len, shown)) >= 1
    assert all((s[:, 2:] - s[:, :2] == [width, height]).all() for s in shown)


def test_a_box_larger_than_a_tile_counts_by_what_a_tile_can_show():
    boxes = Boxes(np.array([[10.0, 20, 400, 30]]), np.array([0], np.int32))
    inside, touched = boxes_in_tile(boxes, Window(96, 0, 64, 64), 0.9)
    assert inside.xyxy.tolist() == [[0, 20, 64, 30]]
    assert touched
    assert not len(boxes_in_tile(boxes, Window(390, 0, 64, 64), 0.3)[0].class_ids)
    assert boxes_in_tile(boxes, Window(0, 40, 64, 64), 0.3)[1] is False


def test_a_box_beyond_the_image_counts_by_what_the_image_has_of_it(tmp_path):
    dataset = images(tmp_path / "in", [(112, 64)], [(0, 0, -100, 10, 20, 30)])
    tiled = cut_tiles(dataset, TrainingTiles(size=64, overlap=16, keep_empty=0), tmp_path / "out", seed=0)
    assert [b.xyxy.tolist() for b in tiled.boxes_by_image()] == [[[0, 10, 20, 30]]]


def test_a_share_of_empty_tiles_is_kept_by_the_seed(tmp_path):
    dataset = images(tmp_path / "in", [(640, 640)])
    some = TrainingTiles(size=64, overlap=16, keep_empty=0.25, max_tiles=200)
    kept = [cut_tiles(dataset, some, tmp_path / "out", seed=seed).column("key") for seed in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert 0.15 < len(kept[0]) / 169 < 0.35
    more = cut_tiles(dataset, some.model_copy(update={"keep_empty": 0.5}), tmp_path / "out", seed=0).column("key")
    assert set(kept[0]) < set(more)
    assert not cut_tiles(dataset, some.model_copy(update={"keep_empty": 0.0}), tmp_path / "out", seed=0).num_images


def test_the_same_images_give_the_same_files(tmp_path):
    dataset = images(tmp_path / "in", [(150, 100), (130, 70)])
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        cut_tiles(dataset, ALL, folder, seed=0)
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert first == second


def test_cutting_reports_progress(tmp_path):
    reported = []
    cut_tiles(
        images(tmp_path / "in", [(70, 70)] * 3), ALL, tmp_path / "out", seed=0, progress=lambda *n: reported.append(n)
    )
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_an_image_that_is_gone_or_damaged_is_named(tmp_path):
    dataset = images(tmp_path / "in", [(150, 100), (150, 100)])
    (tmp_path / "in" / "1.png").write_bytes((tmp_path / "in" / "1.png").read_bytes()[:500])
    with pytest.raises(ImageError, match=r"^lot/1\.png: truncated or damaged"):
        cut_tiles(dataset, ALL, tmp_path / "out", seed=0)
    (tmp_path / "in" / "0.png").unlink()
    with pytest.raises(DataError, match=r"^lot/0\.png: cannot be read \(no such file.*fetch the data again"):
        cut_tiles(dataset, ALL, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    dataset = images(tmp_path / "in", [(300, 200)])
    with mounted(tmp_path / "disk", "size=64k") as disk:
        with pytest.raises(DataError, match=r"out: cannot be written \(no space left on device\); free some space"):
            cut_tiles(dataset, ALL, disk / "out", seed=0)
        assert list(disk.iterdir()) == []


def test_too_many_tiles_name_the_image(tmp_path):
    with pytest.raises(ImageError, match=r"^lot/0\.png: 150 x 100 pixels take 6 tiles"):
        cut_tiles(
            images(tmp_path / "in", [(150, 100)]), ALL.model_copy(update={"max_tiles": 5}), tmp_path / "o", seed=0
        )


@pytest.mark.parametrize("wrong", [{"overlap": 40}, {"min_visible": 0}, {"keep_empty": 1.1}, {"siez": 3}])
def test_settings_are_strict(wrong):
    with pytest.raises(ValidationError):
        TrainingTiles.model_validate({"size": 64, "overlap": 16, **wrong})
