"""Images that annotations name by URLs are found in the folder by every reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.datasets import read_as, write_image, write_json
from visionops.data.findings import Code
from visionops.data.formats.urls import declared_path, path_of_url


def _coco(url: str) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": url, "width": 20, "height": 16}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 5]}],
        "categories": [{"id": 1, "name": "pit"}],
    }


def coco(root: Path, url: str) -> None:
    write_json(root / "labels.json", _coco(url))


def via(root: Path, url: str) -> None:
    shape = {"name": "rect", "x": 1, "y": 2, "width": 8, "height": 5}
    region = {"shape_attributes": shape, "region_attributes": {"class": "pit"}}
    write_json(root / "via.json", {f"{url}-1": {"filename": url, "size": -1, "regions": [region]}})


def cvat(root: Path, url: str) -> None:
    text = url.replace("&", "&amp;")
    box = '<box label="pit" xtl="1" ytl="2" xbr="9" ybr="7"/>'
    image = f'<image id="0" name="{text}" width="20" height="16">{box}</image>'
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")


def csv(root: Path, url: str) -> None:
    (root / "boxes.csv").write_text(f"image_url,path,xmin,ymin,xmax,ymax,class\n1,{url},1,2,9,7,pit\n")


def imagefolder(root: Path, url: str) -> None:
    record = {"file_name": url, "objects": {"bbox": [[1, 2, 8, 5]], "categories": ["pit"]}}
    (root / "metadata.jsonl").write_text(json.dumps(record) + "\n")


def label_studio(root: Path, url: str) -> None:
    value = {"x": 5, "y": 12.5, "width": 40, "height": 31.25, "rotation": 0, "rectanglelabels": ["pit"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 20, "original_height": 16}
    write_json(root / "tasks.json", [{"id": 1, "data": {"image": url}, "annotations": [{"result": [result]}]}])


READERS: tuple[Callable[[Path, str], None], ...] = (coco, via, cvat, csv, imagefolder, label_studio)
URLS = (
    "https://x.org/files/a b.png",
    "https://x.org/files/a%20b.png?size=9&key=1#top",
    "http://x.org/a%20b.png",
    "s3://bucket/2024/a b.png",
    "gs://bucket/images/a b.png",
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("write", READERS, ids=[reader.__name__ for reader in READERS])
def test_the_image_is_found_by_its_name(tmp_path, write, url):
    write_image(tmp_path / "images" / "a b.png")
    write(tmp_path, url)
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["images/a b.png"]
    assert dataset.boxes_of(0).xyxy.tolist() == [pytest.approx((1, 2, 9, 7))]
    assert dataset.class_names == ("pit",)
    assert not dataset.findings
    if "/files/" in url or "/2024/" in url:
        assert any("1 image found by less than the exact name" in note for note in dataset.notes)


def test_attributes_of_urls(tmp_path):
    for i, name in enumerate(("a", "b", "c", "d")):
        write_image(tmp_path / f"images/{name}.png", seed=i)
    rows = "".join(
        f"https://x.org/{name}.png?s=1,{state}\n" for name, state in zip("abcd", ("ok", "pit") * 2, strict=True)
    )
    (tmp_path / "labels.csv").write_text(f"url,state\n{rows}")
    dataset = read_as(tmp_path, "table", image_column="url", table="labels.csv")
    assert dataset.column("key") == [f"images/{name}.png" for name in "abcd"]
    assert dataset.attributes[0].class_names == ("ok", "pit")
    assert not dataset.findings


@pytest.mark.parametrize("write", READERS, ids=[reader.__name__ for reader in READERS])
def test_the_folder_of_a_url_tells_two_images_apart(tmp_path, write):
    for i, place in enumerate(("left", "right")):
        write_image(tmp_path / place / "a.png", seed=i)
    write(tmp_path, "https://x.org/data/right/a.png")
    dataset = read_as(tmp_path, "auto")
    assert dataset.column("key") == ["right/a.png"]
    assert {finding.code for finding in dataset.findings} == {Code.ORPHAN_IMAGE}


@pytest.mark.parametrize("write", READERS, ids=[reader.__name__ for reader in READERS])
def test_an_image_that_is_not_there_is_missing(tmp_path, write):
    write_image(tmp_path / "other.png")
    write(tmp_path, "https://x.org/gone/a.png")
    dataset = read_as(tmp_path, "auto")
    assert {finding.code for finding in dataset.findings} == {Code.MISSING_IMAGE, Code.ORPHAN_IMAGE}


def test_paths_of_urls():
    assert path_of_url("https://x.org/a/b%20c.png?x=1#y") == "a/b c.png"
    assert declared_path("https://x.org/../../etc/passwd") is None
    assert declared_path("../a.png") is None
    assert declared_path("a\\b.png") == "a/b.png"
