"""A missing image of one split is never matched with an image of the same name in another split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.datasets import write_image
from visionops.data.findings import Code
from visionops.data.formats import read_dataset
from visionops.data.settings import DataConfig

NAMES = [f"{i}.png" for i in range(4)]
SPLITS = ("train", "val")


def _coco(names: list[str]) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(len(names))],
        "categories": [{"id": 1, "name": "pit"}],
    }


def _write(file: Path, content: str | dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(root: Path) -> str:
    for split in SPLITS:
        _write(root / f"annotations/instances_{split}2017.json", _coco(NAMES))
    return "{split}2017/{name}"


def cvat_coco(root: Path) -> str:
    for split in SPLITS:
        _write(root / f"annotations/instances_{split}.json", _coco(NAMES))
    return "images/{split}/{name}"


def vision(root: Path) -> str:
    for split in SPLITS:
        _write(root / f"{split}/_annotations.coco.json", _coco(NAMES))
    return "{split}/{name}"


def csv(root: Path) -> str:
    for split in SPLITS:
        rows = "".join(f"{name},1,2,4,6,pit\n" for name in NAMES)
        _write(root / f"{split}/_annotations.csv", f"filename,xmin,ymin,xmax,ymax,class\n{rows}")
    return "{split}/{name}"


def cvat(root: Path) -> str:
    box = '<box label="pit" xtl="1" ytl="2" xbr="4" ybr="6"/>'
    images = "".join(
        f'<image id="{i}" name="{name}" subset="{split}" width="40" height="30">{box}</image>'
        for split in SPLITS
        for i, name in enumerate(NAMES)
    )
    _write(root / "annotations.xml", f"<annotations><version>1.1</version><meta/>{images}</annotations>")
    return "images/{split}/{name}"


def via(root: Path) -> str:
    region = {
        "shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4},
        "region_attributes": {"class": "pit"},
    }
    for split in SPLITS:
        images = {name: {"filename": name, "size": 1, "regions": [region], "file_attributes": {}} for name in NAMES}
        _write(root / f"{split}/via_region_data.json", images)
    return "{split}/{name}"


def voc(root: Path) -> str:
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>4</xmax><ymax>6</ymax></bndbox>"
    for camera in SPLITS:
        for name in NAMES:
            content = f"<annotation><filename>{name}</filename><object><name>pit</name>{box}</object></annotation>"
            _write(root / f"Annotations/{camera}/{name[0]}.xml", content)
    return "JPEGImages/{split}/{name}"


def labelme(root: Path) -> str:
    shape = {"label": "pit", "points": [[1, 2], [4, 6]], "shape_type": "rectangle"}
    for split in SPLITS:
        for name in NAMES:
            content = {"imagePath": name, "imageData": None, "imageWidth": 40, "imageHeight": 30, "shapes": [shape]}
            _write(root / f"{split}/{name[0]}.json", content)
    return "{split}/{name}"


def imagefolder(root: Path) -> str:
    objects = {"bbox": [[1, 2, 3, 4]], "categories": ["pit"]}
    for split in SPLITS:
        rows = "".join(json.dumps({"file_name": name, "objects": objects}) + "\n" for name in NAMES)
        _write(root / f"{split}/metadata.jsonl", rows)
    return "{split}/{name}"


def imagefolder_of_labels(root: Path) -> str:
    for split in SPLITS:
        rows = "".join(json.dumps({"file_name": n, "label": "ab"[i % 2]}) + "\n" for i, n in enumerate(NAMES))
        _write(root / f"{split}/metadata.jsonl", rows)
    return "{split}/{name}"


@pytest.mark.parametrize("missing", [("train",), ("val",), ("train", "val")], ids="+".join)
@pytest.mark.parametrize(
    "write", [coco, cvat_coco, vision, csv, cvat, via, voc, labelme, imagefolder, imagefolder_of_labels]
)
def test_a_missing_image_is_not_the_one_of_another_split(
    write: Callable[[Path], str], missing: tuple[str, ...], tmp_path: Path
) -> None:
    place = write(tmp_path)
    for split in SPLITS:
        for i, name in enumerate(NAMES):
            if i or split not in missing:
                write_image(tmp_path / place.format(split=split, name=name), (40, 30), seed=i)
    dataset = read_dataset(tmp_path, DataConfig(source={"kind": "folder", "path": str(tmp_path)}), "x")
    assert [finding.code for finding in dataset.findings] == [Code.MISSING_IMAGE] * len(missing)
    assert (dataset.num_images, dataset.column("path").count("")) == (8, len(missing))
    assert len(set(dataset.column("key"))) == 8
    assert dataset.num_boxes == (8 if not dataset.attributes else 0)
    boxes = dataset.boxes.select(["x1", "y1", "x2", "y2"]).to_pylist()
    assert all(list(box.values()) == [1, 2, 4, 6] for box in boxes)
