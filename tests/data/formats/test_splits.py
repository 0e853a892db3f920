"""Splits from names of folders and files: one rule for all readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.datasets import coco, read_as, write_image, write_json
from visionops.data.dataset import Split
from visionops.data.formats.splits import split_of_file, split_of_folders


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/a.png", Split.TRAIN),
        ("images/VAL/a.png", Split.VAL),
        ("images/train2017/a.png", Split.TRAIN),
        ("data/train-00/a.png", Split.TRAIN),
        ("train/test_rig/a.png", Split.TRAIN),  # the exact word counts
        ("test_rig/train/a.png", Split.TRAIN),
        ("test/train/a.png", Split.NONE),
        ("train_1/val_2/a.png", Split.NONE),
        ("trains/a.png", Split.NONE),
        ("train.png", Split.NONE),
        ("inference/a.png", Split.NONE),
        ("", Split.NONE),
    ],
)
def test_folders(name, split):
    assert split_of_folders(name) is split


def test_unlabelled_counts_where_files_may_have_no_labels():
    assert split_of_folders("inference/a.png", unlabelled=True) is Split.UNLABELLED
    assert split_of_folders("unlabelled/train/a.png", unlabelled=True) is Split.NONE


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017.json", Split.VAL),
        ("train/instances_val2017.json", Split.VAL),
        ("valid/_annotations.coco.json", Split.VAL),
        ("a/train/b/labels.json", Split.TRAIN),
        ("train/trainval.json", Split.TRAIN),
        ("train_val.json", Split.NONE),
    ],
)
def test_files(name, split):
    assert split_of_file(name) is split


def _coco(root: Path) -> None:
    for part in ("train_1/x", "val_1/x"):
        write_image(root / part / "a.png", seed=len(part))
        write_json(root / part / "labels.json", coco(["a.png"], {"a.png": [("pit", (1, 2, 3, 4))]}, ["pit"]))


def _cvat(root: Path) -> None:
    for part in ("train_1/x", "val_1/x"):
        write_image(root / part / "a.png", seed=len(part))
        box = '<box label="pit" xtl="1" ytl="2" xbr="4" ybr="6"/>'
        image = f'<image id="0" name="a.png" width="20" height="16">{box}</image>'
        (root / part / "annotations.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")


def _yolo(root: Path) -> None:
    (root / "classes.txt").write_text("pit\n")
    for part in ("train_1/x", "val_1/x"):
        write_image(root / "images" / part / "a.png", seed=len(part))
        label = root / "labels" / part / "a.txt"
        label.parent.mkdir(parents=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n")


def _imagefolder(root: Path) -> None:
    rows = ""
    for part in ("train_1/x", "val_1/x"):
        write_image(root / part / "a.png", seed=len(part))
        rows += f'{{"file_name": "{part}/a.png", "objects": {{"bbox": [[1, 2, 3, 4]], "categories": ["pit"]}}}}\n'
    (root / "metadata.jsonl").write_text(rows)


def _csv(root: Path) -> None:
    for part in ("train_1/x", "val_1/x"):
        write_image(root / part / "a.png", seed=len(part))
        (root / part / "boxes.csv").write_text("filename,xmin,ymin,xmax,ymax,class\na.png,1,2,4,6,pit\n")


@pytest.mark.parametrize("write", [_coco, _cvat, _csv, _imagefolder, _yolo])
def test_readers_agree(tmp_path, write: Callable[[Path], None]):
    write(tmp_path)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("split") == ["train", "val"]
    assert dataset.num_boxes == 2
    assert not dataset.findings
