"""Files beside labelled images get one finding for each kind; masks are not read as images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests.helpers.datasets import coco, read_as, write_image, write_json
from visionops.data.findings import Code
from visionops.data.formats.beside import find_masks
from visionops.data.listing import Listing


def write_mask(path: Path, size: tuple[int, int] = (64, 48), *, levels: str = "hard") -> Path:
    """A white blob on black; "soft" has blurred edges, "empty" no blob, "classes" grey values 1 and 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    if levels != "empty":
        draw.ellipse((10, 10, 30, 30), fill=1 if levels == "classes" else 255)
    if levels == "classes":
        draw.rectangle((40, 20, 50, 40), fill=2)
    if levels == "soft":
        image = image.resize((256, 192)).filter(ImageFilter.GaussianBlur(1)).resize(size)
    image.save(path)
    return path


def masks(root: Path) -> dict[str, str]:
    return find_masks(Listing(root))


@pytest.mark.parametrize("levels", ["hard", "soft", "empty", "classes"])
@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("crack/a.jpg", "crack/a.png"),
        ("crack/a.jpg", "crack/a_mask.png"),
        ("a.bmp", "a_label.bmp"),
        ("images/a.jpg", "masks/a.png"),
        ("test/crack/a.png", "ground_truth/crack/a_mask.png"),
        ("a.png", "a-GT.tif"),
    ],
)
def test_masks_are_recognized(tmp_path, image, mask, levels):
    write_image(tmp_path / image, (64, 48))
    write_mask(tmp_path / mask, levels=levels)
    assert masks(tmp_path) == {mask: image}


def test_images_that_only_look_like_masks(tmp_path):
    write_image(tmp_path / "a.jpg", (64, 48))
    write_image(tmp_path / "a.png", (64, 48), seed=1)  # a second photograph
    write_image(tmp_path / "b.jpg", (64, 48))
    write_mask(tmp_path / "b.png", (32, 24))  # of another size
    write_mask(tmp_path / "c.png")  # of no image
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))).save(tmp_path / "d_mask.png")  # a ramp
    write_image(tmp_path / "d.jpg", (64, 48))
    assert masks(tmp_path) == {}


def test_masks_and_photographs_of_the_same_pattern_are_distinguished(tmp_path):
    for i in range(6):
        write_image(tmp_path / f"{i}.jpg", (64, 48), seed=i)
        if i % 2:
            write_mask(tmp_path / f"{i}.png")
        else:
            write_image(tmp_path / f"{i}.png", (64, 48), seed=100 + i)
    assert masks(tmp_path) == {f"{i}.png": f"{i}.jpg" for i in (1, 3, 5)}


def test_folders_of_masks_are_no_classes(tmp_path):
    for i, name in enumerate(("ok/a", "ok/b", "crack/c", "crack/d")):
        write_image(tmp_path / f"{name}.jpg", (64, 48), seed=i)
        if name.startswith("crack"):
            write_mask(tmp_path / f"ground_truth/{name}_mask.png")
    dataset = read_as(tmp_path, "auto")
    assert dataset.all_class_names == ("crack", "ok")
    assert [f.code for f in dataset.findings] == [Code.MASK_IMAGE]


def test_one_finding_for_each_kind_with_a_count(tmp_path):
    write_image(tmp_path / "images/a.jpg", (64, 48))
    write_json(tmp_path / "labels.json", coco(["a.jpg"], {"a.jpg": [("pit", (1, 2, 3, 4))]}, ["pit"]))
    for name in ("b.jpg", "c.jpg"):
        write_image(tmp_path / "images" / name, (64, 48), seed=ord(name[0]))
    for name in ("a", "b"):
        write_mask(tmp_path / f"images/{name}.png")
    for name in ("raw/1.cr2", "raw/2.NEF", "raw/3.exr"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in (".DS_Store", "images/Thumbs.db", "__MACOSX/images/._a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = {finding.code: finding for finding in read_as(tmp_path, "coco").findings}
    assert set(found) == {Code.ORPHAN_IMAGE, Code.MASK_IMAGE, Code.UNREADABLE_IMAGE, Code.SYSTEM_FILE}
    assert found[Code.ORPHAN_IMAGE].images == ("images/b.jpg", "images/c.jpg")
    assert found[Code.MASK_IMAGE].images == ("images/a.png", "images/b.png")
    assert "(OpenEXR, a raw camera file)" in found[Code.UNREADABLE_IMAGE].message
    assert "3 files: raw/1.cr2, raw/2.NEF, raw/3.exr" in found[Code.UNREADABLE_IMAGE].message
    assert found[Code.SYSTEM_FILE].where == ".DS_Store and 2 more"


def test_a_mask_of_images_that_are_numbered_in_each_class_is_a_mask(tmp_path):
    for i in range(3):
        for folder in ("good", "bad"):
            write_image(tmp_path / folder / f"{i}.png", (64, 48), seed=i + 10 * (folder == "bad"))
        write_mask(tmp_path / "labels" / f"{i}_label.png")
    assert sorted(find_masks(Listing(tmp_path))) == [f"labels/{i}_label.png" for i in range(3)]
