from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.datasets import read_as, write_image, write_yolo_layout
from visionops.data.dataset import Dataset
from visionops.data.findings import Code
from visionops.errors import AnnotationError


def codes(dataset: Dataset) -> list[Code]:
    return [finding.code for finding in dataset.findings]


def yolo(root: Path, *lines: str, split: str = "train") -> Dataset:
    """Return a data set with one 20 x 16 image whose label file has ``lines``."""
    write_image(root / "images/train/0.jpg")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/0.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("train: images/train\nnames: {0: a, 1: b}\n")
    return read_as(root, "yolo", "made-up")


class TestRead:
    def test_boxes_polygons_and_empty_images(self, tmp_path):
        dataset = read_as(write_yolo_layout(tmp_path), "yolo", "made-up")
        assert dataset.split_counts() == {"train": 4, "val": 4}
        assert dataset.class_names == ("scratch", "pit")
        assert dataset.boxes_of(0).xyxy.tolist() == [[5, 6, 15, 10]]
        np.testing.assert_allclose(dataset.boxes_of(1).xyxy, [[2, 4, 12, 12]])
        assert [len(b.xyxy) for b in dataset.boxes_by_image()] == [1, 1, 0, 0] * 2
        assert set(dataset.column("width")) == {20}
        assert dataset.column("plain") == [True] * 8
        assert not dataset.findings

    def test_size_is_that_after_exif_rotation(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        root = write_yolo_layout(tmp_path)
        write_image(root / "images/train/0.jpg", size=(300, 200), exif=exif)
        dataset = read_as(root, "yolo", "made-up")
        assert (dataset.column("width")[0], dataset.column("height")[0]) == (200, 300)
        assert dataset.boxes_of(0).xyxy.tolist() == [[50, 112.5, 150, 187.5]]
        assert dataset.column("plain")[0] is False

    def test_large_jpegs_are_judged_by_their_head(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        write_image(root / "images/train/0.jpg", size=(400, 300), quality=100)
        assert (root / "images/train/0.jpg").stat().st_size > 65_536
        assert read_as(root, "yolo", "made-up").column("width")[0] == 400

    @pytest.mark.parametrize(
        ("line", "code", "message"),
        [
            ("0 0.5 0.5 0.5", Code.BAD_BOX, "4 values"),
            ("0 0.5 0.5 0.5 0.5 0.9", Code.BAD_BOX, "6 values"),
            ("a 0.5 0.5 0.5 0.5", Code.BAD_BOX, "not all values are numbers"),
            ("0.5 0.5 0.5 0.5 0.5", Code.BAD_BOX, "not a whole number"),
            ("0 nan 0.5 0.5 0.5", Code.BAD_BOX, "not finite"),
            ("0 0.5 inf 0.5 0.5", Code.BAD_BOX, "not finite"),
            ("0 0.5 0.5 -0.5 0.5", Code.BAD_BOX, "negative"),
            ("0 100 50 30 20", Code.BAD_BOX, "not pixels"),
            ("7 0.5 0.5 0.5 0.5", Code.UNKNOWN_CATEGORY, "class 7 is not in 'names'"),
            ("-1 0.5 0.5 0.5 0.5", Code.UNKNOWN_CATEGORY, "class -1"),
        ],
    )
    def test_malformed_lines_are_named(self, tmp_path, line, code, message):
        dataset = yolo(tmp_path, "1 0.5 0.5 1 1", "", line)
        assert codes(dataset) == [code]
        assert dataset.findings[0].where == "labels/train/0.txt:3"
        assert message in dataset.findings[0].message
        assert dataset.num_boxes == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("names: [a", ":1: not valid YAML"),
            ("- a", "must be a mapping"),
            ("\x00", "not a YAML text"),
            ("train: images/train", "'names' must list"),
            ("train: images/train\nnames: []", "'names' must list"),
            ("train: images/train\nnames: [a, [b]]", "'names' must list"),
            ("train: images/train\nnames: {x: a}", "whole numbers"),
            ("train: images/train\nnames: [a]\nnc: 2", "'nc' is 2, but 'names' has 1"),
            ("train: 3\nnames: [a]", "3 is missing"),
            ("train: {a: b}\nnames: [a]", "'train' must be a folder"),
            ("train: [[3]]\nnames: [a]", "'train' must be a folder"),
            ("path: [3]\ntrain: images/train\nnames: [a]", "'path' must be a folder"),
            ("train: images/train\nnames: {0: a, 00: b}", "duplicate number"),
            ("train: images/train\nnames: [a]\nkpt_shape: [4]", "'kpt_shape' must be"),
            ("train: images/train\ntask: obb\nnames: [a]", "oriented boxes (OBB"),
            ("train: images/absent\nnames: [a]", "is missing"),
            ("train: ../../elsewhere\nnames: [a]", "is outside"),
            ("train: /etc\nnames: [a]", "is outside"),
        ],
    )
    def test_malformed_data_file(self, tmp_path, text, message):
        root = write_yolo_layout(tmp_path)
        (root / "data.yaml").write_text(text)
        with pytest.raises(AnnotationError) as error:
            read_as(root, "yolo", "made-up")
        assert message in str(error.value)
        assert "data.yaml" in str(error.value)

    def test_data_file_may_have_another_name_or_be_absent(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "data.yaml").rename(root / "parts.yml")
        assert read_as(root, "yolo", "made-up").num_images == 8
        (root / "parts.yml").rename(root / "data.yml")
        assert read_as(root, "yolo", "made-up").num_images == 8
        (root / "data.yml").rename(root / "a.yaml")
        (root / "b.yaml").touch()
        assert read_as(root, "yolo", "made-up").num_images == 8, "only one of them names classes"
        (root / "b.yaml").write_text("names: [scratch, pit]")
        with pytest.raises(AnnotationError, match=r"a\.yaml, b\.yaml; rename one"):
            read_as(root, "yolo", "made-up")
        (root / "a.yaml").unlink()
        (root / "b.yaml").unlink()
        with pytest.raises(AnnotationError, match=r"not found; add class names in classes\.txt"):
            read_as(root, "yolo", "made-up")
        (root / "data.yaml").mkdir()
        with pytest.raises(AnnotationError):
            read_as(root, "yolo", "made-up")

    def test_entries_of_other_tools(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "data.yaml").write_text("train: ../images/train\nvalidation: [./images/val]\nnames: [scratch, pit]\n")
        assert read_as(root, "yolo", "made-up").split_counts() == {"train": 4, "val": 4}
        (root / "data.yaml").write_text("path: images\ntrain: train\nnames: [scratch, pit]\n")
        assert read_as(root, "yolo", "made-up").split_counts() == {"train": 4}

    def test_lists_of_images(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "train.txt").write_text(
            f"images/train/0.jpg\n{root}/images/train/1.jpg\n\nimages/absent.jpg\n../x.jpg\n"
        )
        (root / "images/val.txt").write_text("./val/0.jpg\n")
        (root / "data.yaml").write_text("train: train.txt\nval: images/val.txt\nnames: [scratch, pit]\n")
        dataset = read_as(root, "yolo", "made-up")
        assert dataset.split_counts() == {"train": 3, "val": 1}
        assert dataset.column("path")[2] == ""
        assert codes(dataset)[:2] == [Code.UNSAFE_NAME, Code.MISSING_IMAGE]
        assert dataset.findings[1].where == "train.txt:4"
        assert codes(dataset)[2:] == [Code.ORPHAN_IMAGE]
        assert len(dataset.findings[2].images) == 5

    def test_an_image_in_two_splits_is_kept_once(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "data.yaml").write_text("train: images\nval: images/val\nnames: [scratch, pit]\n")
        dataset = read_as(root, "yolo", "made-up")
        assert dataset.split_counts() == {"train": 8}
        assert codes(dataset) == [Code.DUPLICATE_NAME]
        assert "4 images are in train and in val" in dataset.findings[0].message
        (root / "data.yaml").write_text("train: [images/train, images/train]\nnames: [scratch, pit]\n")
        assert "twice in train" in read_as(root, "yolo", "made-up").findings[0].message

    def test_labels_without_image_and_unreadable_images(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "labels/train/9.txt").touch()
        (root / "images/train/0.jpg").write_text("no image")
        dataset = read_as(root, "yolo", "made-up")
        assert codes(dataset) == [Code.UNKNOWN_IMAGE]
        assert dataset.findings[0].where == "labels/train/9.txt"
        assert dataset.column("width")[0] == 0
        assert len(dataset.boxes_of(0).xyxy) == 0

    def test_names_that_no_path_should_have(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "images/train/0.jpg").rename(root / "images/train/a\\0.jpg")
        assert Code.UNSAFE_NAME in codes(read_as(root, "yolo", "made-up"))

    def test_labels_may_lie_beside_images(self, tmp_path):
        write_image(tmp_path / "data/0.jpg")
        (tmp_path / "data/0.txt").write_text("0 0.5 0.5 1 1")
        (tmp_path / "data/readme.txt").write_text("hello")
        (tmp_path / "data.yaml").write_text("train: data\nnames: [a]")
        dataset = read_as(tmp_path, "yolo", "made-up")
        assert dataset.num_boxes == 1
        assert not dataset.findings

    def test_label_file_that_is_no_text(self, tmp_path):
        root = write_yolo_layout(tmp_path)
        (root / "labels/train/0.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(AnnotationError, match="not a UTF-8 text file"):
            read_as(root, "yolo", "made-up")


def test_labels_of_any_case_and_with_an_upload_hash(tmp_path):
    for i in range(2):
        write_image(tmp_path / "Images" / f"{i}.jpg", seed=i)
    for name in ("0.txt", "0a1b2c3d-1.txt"):
        (tmp_path / "Labels").mkdir(exist_ok=True)
        (tmp_path / "Labels" / name).write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("pit\n")
    dataset = read_as(tmp_path, "yolo")
    assert (dataset.num_boxes, dataset.findings) == (2, ())
    assert any("found by less than the exact name" in note for note in dataset.notes)


@pytest.mark.parametrize("key", ["nc", "names", "path", "train", "task", "kpt_shape", "other"])
@pytest.mark.parametrize("value", ["*i", "[*i]", "&self [*self]"])
def test_aliases_that_expand_too_far_are_refused(tmp_path, key, value):
    yolo(tmp_path, "0 0.5 0.5 0.5 0.5")
    swelling = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join(f'*{before}' for _ in range(9))}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (tmp_path / "data.yaml").write_text(f"{swelling}train: images/train\nnames: [a, b]\n{key}: {value}\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml(:\d+)?: not (a YAML text|valid YAML)"):
        read_as(tmp_path, "yolo")


def test_aliases_are_resolved(tmp_path):
    yolo(tmp_path, "0 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text("train: &all images/train\nval: *all\nnames: &names [a, b]\nshown: *names\n")
    assert read_as(tmp_path, "yolo").class_names == ("a", "b")
