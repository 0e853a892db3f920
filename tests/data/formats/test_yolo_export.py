from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.helpers.datasets import read_as, write_image, write_taco, write_vision, write_yolo_layout
from tests.helpers.disks import mounted
from visionops.data.dataset import Dataset, Split
from visionops.data.formats.yolo_export import write_yolo
from visionops.errors import DataError, ImageError
from visionops.inference.image import decode_image

MAX_SIDE = 20_000


def clip(xyxy: np.ndarray, width: int, height: int) -> list[tuple[float, ...]]:
    """Clip independently of the tested code: intersect two rectangles, box by box."""
    result = []
    for x1, y1, x2, y2 in xyxy.tolist():
        box = (max(x1, 0), max(y1, 0), min(x2, width), min(y2, height))
        if box[2] > box[0] and box[3] > box[1]:
            result.append(box)
    return result


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    return write_image(tmp_path_factory.mktemp("images") / "a.jpg", size=(12, 12))


class TestWrite:
    def test_round_trip_of_taco(self, tmp_path):
        original = read_as(write_taco(tmp_path / "taco"), "coco", "taco")
        data_file = write_yolo(original, tmp_path / "out")
        copy = read_as(data_file.parent, "yolo", "taco")
        assert copy.split_counts() == original.split_counts()
        assert copy.class_names == original.class_names
        assert not copy.findings
        by_source = {os.path.realpath(p): b for p, b in zip(copy.column("path"), copy.boxes_by_image(), strict=True)}
        assert len(by_source) == 7, "no two images became one"
        for path, boxes in zip(original.column("path"), original.boxes_by_image(), strict=True):
            expected = clip(boxes.xyxy, 20, 16)
            np.testing.assert_allclose(by_source[path].xyxy, np.array(expected).reshape(-1, 4), atol=1e-4)
        stems = [Path(key).stem.casefold() for key in copy.column("key")]
        assert len(set(stems)) == 7, "nor do their label files collide, whatever the case"

    def test_splits_empty_images_and_data_file(self, tmp_path):
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")
        data_file = write_yolo(dataset, tmp_path / "a/b/out")
        content = yaml.safe_load(data_file.read_text())
        assert content == {
            "train": "images/train",
            "val": "images/val",
            "unlabelled": "images/unlabelled",
            "names": {0: "Scratch", 1: "pit"},
        }
        assert (data_file.parent / "labels/train/Cable__train__000003.txt").read_bytes() == b""
        assert (data_file.parent / "images/val/Cable__val__000001.jpg").is_symlink()
        assert read_as(data_file.parent, "yolo", "v").split_counts() == dataset.split_counts()
        assert sorted(p.name for p in data_file.parent.parent.iterdir()) == ["out"]

    def test_label_files_hold_twelve_decimals(self, tmp_path):
        root = write_yolo_layout(tmp_path / "in")
        dataset = Dataset.from_columns(
            "made-up",
            ["a", "b"],
            {"key": ["0.jpg", "1.jpg"], "path": [str(root / f"images/train/{i}.jpg") for i in range(2)]}
            | {"split": ["train"] * 2, "width": [20_000] * 2, "height": [30] * 2},
            {"image": [1, 0, 1], "class_id": [1, 0, 0]}
            | {"x1": [0, 0, -5], "y1": [0, 10, -5], "x2": [10_000, 0.001, 30_000], "y2": [15, 20, 50]},
        )
        labels = write_yolo(dataset, tmp_path / "out").parent / "labels/train"
        assert (labels / "1.txt").read_text() == "1 0.25 0.25 0.5 0.5\n0 0.5 0.5 1.0 1.0\n"
        assert (labels / "0.txt").read_text() == "0 2.5e-8 0.5 5e-8 0.333333333333\n"

    def test_the_trainer_reads_the_same(self, tmp_path, monkeypatch):
        data = pytest.importorskip("ultralytics.data.utils")
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")
        out = write_yolo(dataset, tmp_path / "out").parent
        images = sorted((out / "images/train").iterdir())
        labels = data.img2label_paths([str(p) for p in images])
        checked = [
            data.verify_image_label((str(i), lb, "", False, 2, 0, 2, False))
            for i, lb in zip(images, labels, strict=True)
        ]
        assert [len(c[1]) for c in checked] == [2, 2, 2, 0]
        assert not any(c[-1] for c in checked), "no complaint, nothing restored"
        np.testing.assert_allclose(checked[0][1][0], [0, 3.5 / 20, 5 / 16, 5 / 20, 6 / 16], atol=1e-6)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_images_that_decoders_read_differently_become_png(self, tmp_path):
        root = write_yolo_layout(tmp_path / "in")
        exif = Image.Exif()
        exif[0x0112] = 6
        write_image(root / "images/train/0.jpg", exif=exif)
        Image.new("CMYK", (20, 16), (10, 200, 30, 40)).save(root / "images/train/1.jpg")
        Image.fromarray(np.arange(320, dtype=np.uint16).reshape(16, 20) * 200).save(root / "images/train/4.png")
        original = read_as(root, "yolo", "made-up")
        for known in (original, original.replace_column("plain", [None] * original.num_images)):
            out = write_yolo(known, tmp_path / "out").parent
            for name in ("0", "1", "4"):
                source = next((root / "images/train").glob(f"{name}.*"))
                written = out / f"images/train/images__train__{name}.png"
                assert not written.is_symlink()
                assert (decode_image(written.read_bytes()) == decode_image(source.read_bytes())).all()
            assert (out / "images/train/images__train__2.jpg").is_symlink()
            # the labels of the rotated image belong to the upright one
            np.testing.assert_allclose(read_as(out, "yolo", "x").boxes_of(0).xyxy, original.boxes_of(0).xyxy, atol=1e-4)

    def test_jpegs_that_the_trainer_would_rewrite_become_png(self, tmp_path):
        root = write_yolo_layout(tmp_path / "in")
        image = root / "images/train/0.jpg"
        image.write_bytes(image.read_bytes() + b"trailing bytes of a camera")
        out = write_yolo(read_as(root, "yolo", "made-up"), tmp_path / "out").parent
        assert (out / "images/train/images__train__0.png").is_file()
        assert image.read_bytes().endswith(b"camera")

    def test_suffixes_that_the_trainer_does_not_know_become_png(self, tmp_path):
        write_image(tmp_path / "a.jfif", format="JPEG")
        dataset = Dataset.from_columns(
            "d", ["a"], {"key": ["a.jfif"], "path": [str(tmp_path / "a.jfif")], "plain": [True]}, {}
        )
        out = write_yolo(dataset, tmp_path / "out").parent
        assert (out / "images/all/a.png").is_file()

    def test_undeclared_sizes_are_read(self, tmp_path):
        dataset = read_as(write_taco(tmp_path / "taco"), "coco", "taco")
        blank = dataset.replace_column("width", [0] * 7).replace_column("height", [0] * 7)
        first = write_yolo(dataset, tmp_path / "a").parent
        second = write_yolo(blank.replace_column("plain", [True] * 7), tmp_path / "b").parent
        for file in (first / "labels/all").iterdir():
            assert (second / "labels/all" / file.name).read_bytes() == file.read_bytes()

    def test_long_and_strange_names(self, tmp_path, picture):
        keys = ["x" * 200 + "/" + "y" * 50 + ".jpg", "a~b.jpg", "ü/ß.jpg", "ü__ß.jpg"]
        dataset = Dataset.from_columns("d", ["a"], {"key": keys, "path": [str(picture)] * 4}, {})
        out = write_yolo(dataset, tmp_path / "out").parent
        assert len(list((out / "images/all").iterdir())) == 4
        reverse = write_yolo(dataset.take([3, 2, 1, 0]), tmp_path / "reverse").parent
        names = [{p.name for p in (folder / "images/all").iterdir()} for folder in (out, reverse)]
        assert names[0] == names[1], "names do not depend on the order of rows"

    def test_links_fall_back_to_hard_links_and_copies(self, tmp_path, monkeypatch):
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")

        def refuse(*_args: str) -> None:
            raise OSError(1, "not permitted")

        monkeypatch.setattr(os, "symlink", refuse)
        image = write_yolo(dataset, tmp_path / "hard").parent / "images/train/Cable__train__000000.jpg"
        assert image.stat().st_nlink == 2
        monkeypatch.setattr(os, "link", refuse)
        image = write_yolo(dataset, tmp_path / "copy").parent / "images/train/Cable__train__000000.jpg"
        assert image.read_bytes() == (tmp_path / "vision/Cable/train/000000.jpg").read_bytes()

    def test_replaces_what_it_wrote_and_nothing_else(self, tmp_path):
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")
        out = write_yolo(dataset, tmp_path / "out").parent
        (out / "labels/train.cache").touch()
        write_yolo(dataset.select_split(Split.TRAIN), out)
        assert not (out / "images/val").exists()
        assert not (out / "labels/train.cache").exists()
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/work.txt").touch()
        for folder in ("mine", "mine/work.txt"):
            with pytest.raises(DataError, match="is not a YOLO data set"):
                write_yolo(dataset, tmp_path / folder)
        (tmp_path / "empty").mkdir()
        write_yolo(dataset, tmp_path / "empty")

    @pytest.mark.parametrize("name", ["absent", "gone", "broken"])
    def test_images_that_cannot_be_used(self, tmp_path, name):
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")
        if name == "absent":
            dataset = dataset.replace_column("path", ["", *dataset.column("path")[1:]])
        elif name == "gone":
            dataset = dataset.replace_column("plain", [True] * dataset.num_images)
            Path(dataset.column("path")[0]).unlink()
        else:
            dataset = dataset.replace_column("plain", [False] * dataset.num_images)
            Path(dataset.column("path")[0]).write_bytes(b"\xff\xd8")
        with pytest.raises((DataError, ImageError), match=r"000000\.jpg"):
            write_yolo(dataset, tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["vision"]

    def test_image_gone_before_it_is_encoded(self, tmp_path):
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")
        Path(dataset.column("path")[0]).unlink()
        with pytest.raises(DataError, match="cannot be read"):
            write_yolo(dataset.replace_column("plain", [False] * dataset.num_images), tmp_path / "out")

    @pytest.mark.real_data
    def test_real_steel_comes_back_whole(self, tmp_path, real_data):
        dataset = read_as(real_data / "vision", "vision", "steel", products=("Steel",))
        labelled = dataset.take([i for i, s in enumerate(dataset.column("split")) if s in ("train", "val")])
        out = write_yolo(labelled.replace_column("plain", [True] * 1530), tmp_path / "out").parent
        for split, count in (("train", 1260), ("val", 270)):
            raw = json.loads((real_data / f"vision/Steel/{split}/_annotations.coco.json").read_text())
            expected = sorted(
                (x["category_id"], *((a + b / 2) / 200 for a, b in zip(x["bbox"][:2], x["bbox"][2:], strict=True)))
                for x in raw["annotations"]
            )
            files = sorted((out / f"labels/{split}").iterdir())
            lines = [line.split() for f in files for line in f.read_text().splitlines()]
            found = sorted((int(c), float(x), float(y)) for c, x, y, _, _ in lines)
            assert len(files) == count
            np.testing.assert_allclose(found, expected, atol=1e-9)


coordinate = st.floats(-MAX_SIDE, 2 * MAX_SIDE, allow_nan=False, width=64)


@st.composite
def boxes(draw):
    """Draw an image size and 100 boxes anywhere around it."""
    width, height = draw(st.integers(1, MAX_SIDE)), draw(st.integers(1, MAX_SIDE))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    # Most are random, also over the border; hypothesis draws some difficult ones.
    chance = rng.uniform(-0.5, 1.5, (80, 4)) * [width, height, width, height]
    nasty = draw(hnp.arrays(np.float64, (20, 4), elements=coordinate))
    corners = np.concatenate([chance, nasty])
    low, high = np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])
    return width, height, np.hstack([low, high])


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(case=boxes())
def test_boxes_come_back_within_a_ten_thousandth_of_a_pixel(case, picture, tmp_path_factory):
    width, height, xyxy = case
    columns = {"key": ["a.jpg"], "path": [str(picture)], "width": [width], "height": [height], "plain": [True]}
    rows = {"image": [0] * 100, "class_id": [0] * 100, **dict(zip(("x1", "y1", "x2", "y2"), xyxy.T, strict=True))}
    dataset = Dataset.from_columns("d", ["a"], columns, rows)
    out = write_yolo(dataset, tmp_path_factory.getbasetemp() / "hypothesis").parent
    copy = read_as(out, "yolo", "d")
    assert copy.column("width") == [12]
    scale = np.array([width, height] * 2) / 12
    expected = np.array(clip(xyxy, width, height)).reshape(-1, 4)
    # A box thinner than 1e-8 px may round to nothing: it still exists, as a line.
    assert copy.num_boxes == len(expected)
    np.testing.assert_allclose(copy.box_arrays()[2] * scale, expected, atol=1e-4, rtol=0)


class TestDisk:
    def test_a_file_in_the_way(self, tmp_path):
        dataset = read_as(write_vision(tmp_path / "vision"), "vision", "vision")
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot be written"):
            write_yolo(dataset, tmp_path / "file" / "out")

    @pytest.mark.parametrize(("options", "message"), [("size=64k", "no space left"), ("ro", "read-only")])
    def test_full_and_read_only_disks(self, tmp_path, options, message):
        dataset = read_as(write_vision(tmp_path / "vision", images=40), "vision", "vision")
        with mounted(tmp_path / "disk", options) as disk:
            with pytest.raises(DataError) as error:
                write_yolo(dataset, disk / "out")
            assert message in str(error.value)
            assert "\n" not in str(error.value)
            assert list(disk.iterdir()) == []
