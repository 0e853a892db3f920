"""FiftyOne's labels.json: boxes and classes, with and without a list of classes, and invalid labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.datasets import read_as
from tests.helpers.exports import write_made
from visionops.data.findings import Code
from visionops.errors import AnnotationError


def write(folder: Path, labels: dict[str, Any], names=("a", "b", "c"), **more: Any) -> Path:
    for name in names:
        write_made(folder / "data" / f"{name}.png", 20, 10)
    (folder / "labels.json").write_text(json.dumps({"labels": labels, **more}))
    return folder


@pytest.mark.parametrize("format_", ["auto", "fiftyone"])
def test_boxes_are_pixels_and_images_without_labels_stay_out(tmp_path: Path, format_: str):
    box = {"label": 1, "bounding_box": [0.1, 0.2, 0.5, 0.5], "confidence": 0.9, "attributes": {}}
    dataset = read_as(write(tmp_path, {"a": [box], "b": [], "c": None}, classes=["dent", "pit"]), format_)
    assert dataset.class_names == ("dent", "pit")
    assert list(dataset.column("key")) == ["data/a.png", "data/b.png"]
    assert dataset.boxes_by_image()[0].xyxy.tolist() == [pytest.approx([2, 2, 12, 7], abs=1e-5)]
    assert not dataset.findings
    assert "1 image without labels left out." in dataset.notes


@pytest.mark.parametrize("labels", [{"a": 1, "b": 0}, {"a": {"label": "pit", "confidence": 0.5}, "b": "dent"}])
def test_classes_of_whole_images(tmp_path: Path, labels):
    classes = ["dent", "pit"] if labels["a"] == 1 else None
    dataset = read_as(write(tmp_path, labels, ("a", "b"), **({"classes": classes} if classes else {})), "auto")
    (attribute,) = dataset.attributes
    assert (attribute.name, attribute.class_names) == ("label", ("dent", "pit"))
    assert dataset.label_array().T.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ([{"label": 7, "bounding_box": [0, 0, 1, 1]}], Code.UNKNOWN_CATEGORY, "has no class that the file declares"),
        ([{"label": 0, "bounding_box": [0, 0, 1]}], Code.BAD_BOX, "expected x, y, width and height"),
        ([{"label": 0, "bounding_box": [0, 0, -1, 1]}], Code.BAD_BOX, "negative size"),
        (3, Code.BAD_BOX, "is not a list of boxes"),
    ],
)
def test_a_label_that_cannot_be_read_is_a_finding(tmp_path: Path, target, code, message):
    good = [{"label": 0, "bounding_box": [0, 0, 1, 1]}]
    dataset = read_as(write(tmp_path, {"a": good, "b": target}, ("a", "b"), classes=["pit"]), "fiftyone")
    (finding,) = dataset.findings
    assert (finding.code, message in finding.message) == (code, True)


def test_an_image_that_is_not_there_is_a_finding(tmp_path: Path):
    good = [{"label": 0, "bounding_box": [0, 0, 1, 1]}]
    dataset = read_as(write(tmp_path, {"a": good, "gone": good}, ("a",), classes=["pit"]), "fiftyone")
    assert [finding.code for finding in dataset.findings] == [Code.MISSING_IMAGE]


def test_a_folder_without_the_file_is_refused(tmp_path: Path):
    write_made(tmp_path / "data" / "a.png", 20, 10)
    with pytest.raises(AnnotationError, match=r"no labels\.json with labels by image"):
        read_as(tmp_path, "fiftyone")
