"""Write generated data sets in every supported layout. Images are tiny and real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visionops.data.dataset import Dataset
from visionops.data.formats import read_dataset
from visionops.data.settings import DataConfig, FolderSource

Box = tuple[float, float, float, float]


def write_image(path: Path, size: tuple[int, int] = (20, 16), seed: int = 0, **save: Any) -> Path:
    """Write an RGB image of noise, with the format of the suffix; another seed gives another image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


def coco(
    names: list[str], boxes: dict[str, list[tuple[str, Box]]], classes: list[str], *, first_id: int = 0
) -> dict[str, Any]:
    """Return a COCO object. ``boxes`` by file name: class and ``[x, y, w, h]``."""
    images = [{"id": i, "file_name": n, "width": 20, "height": 16} for i, n in enumerate(names)]
    annotations: list[dict[str, Any]] = []
    for name, rows in boxes.items():
        for class_name, xywh in rows:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": names.index(name),
                    "category_id": first_id + classes.index(class_name),
                    "bbox": list(xywh),
                }
            )
    categories = [{"id": first_id + i, "name": c} for i, c in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_vision(root: Path, products: tuple[str, ...] = ("Cable",), images: int = 4) -> Path:
    """Write ``{product}/{train,val,inference}``; class ids start at 0 in train and 1 in val; the last image is
    empty."""
    for p, product in enumerate(products):
        for s, split in enumerate(("train", "val", "inference")):
            names = [f"{i:06d}.jpg" for i in range(images)]
            for i, name in enumerate(names):
                write_image(root / product / split / name, seed=100 * p + 10 * s + i)
            boxes = {
                n: [("Scratch" if s == 0 else "scratch", (1, 2, 5 + i, 6)), ("pit", (0, 0, 3, 3))]
                for i, n in enumerate(names[:-1])
            }
            classes = ["Scratch", "pit"] if s == 0 else ["pit", "scratch"]
            content = coco(names, {} if split == "inference" else boxes, classes, first_id=s)
            write_json(root / product / split / "_annotations.coco.json", content)
    return root


def write_taco(root: Path) -> Path:
    """Write one file with images in sub-folders: names collide when flattened or case-folded, boxes exceed the
    image."""
    names = [
        "batch_1/000001.jpg",
        "batch_2/000001.jpg",
        "batch_2/000001.png",
        "batch_2/000002.JPG",
        "batch_2__000001.jpg",
        "Batch_2/000002.jpg",
        "batch_3/empty.jpg",
    ]
    for i, name in enumerate(names):
        write_image(root / name, seed=i, **({"format": "JPEG"} if name.lower().endswith("jpg") else {}))
    boxes: dict[str, list[tuple[str, Box]]] = {
        n: [("Can", (-2.5, 3, 10, 20)), ("Bottle", (15.25, -1, 9, 9.5))] for n in names[:-1]
    }
    boxes[names[0]].append(("Can", (30, 30, 5, 5)))
    write_json(root / "annotations.json", coco(names, boxes, ["Bottle", "Can"], first_id=1))
    return root


def write_yolo_layout(root: Path) -> Path:
    """Write ``images/{train,val}``, ``labels/…``: a box, a polygon, an empty file, no file."""
    for split in ("train", "val"):
        for i in range(4):
            write_image(root / "images" / split / f"{i}.jpg", seed=i + 10 * (split == "val"))
        labels = root / "labels" / split
        labels.mkdir(parents=True)
        (labels / "0.txt").write_text("0 0.5 0.5 0.5 0.25\n")
        (labels / "1.txt").write_text("1 0.1 0.25 0.6 0.25 0.6 0.75\n")
        (labels / "2.txt").write_text("")
    (root / "data.yaml").write_text(
        "path: /content/x\ntrain: images/train\nval: images/val\nnames: [scratch, pit]\nnc: 2\n"
    )
    return root


def voc_xml(
    name: str, objects: list[tuple[str, tuple[Any, Any, Any, Any]]], size: tuple[Any, Any] | None = (20, 16)
) -> str:
    """Return a VOC annotation; boxes are 1-based and inclusive."""
    parts = [f"<annotation><filename>{name}</filename>"]
    if size:
        parts.append(f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>")
    for class_name, (x1, y1, x2, y2) in objects:
        parts.append(
            f"<object><name>{class_name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        )
    return "".join(parts) + "</annotation>"


def write_voc(root: Path, *, lists: bool = True) -> Path:
    """Write six images: three train, one val, one test, and one that no list names."""
    (root / "Annotations").mkdir(parents=True)
    for i in range(6):
        write_image(root / "JPEGImages" / f"{i:06d}.jpg", seed=i)
        objects = [("dog", (1, 1, 20, 16)), ("cat", (2, 3, 4, 5))] if i < 5 else []
        (root / "Annotations" / f"{i:06d}.xml").write_text(voc_xml(f"{i:06d}.jpg", objects))
    if lists:
        main = root / "ImageSets" / "Main"
        main.mkdir(parents=True)
        (main / "train.txt").write_text("000000\n000001  1\n\n000002\n")
        (main / "val.txt").write_text("000003\n")
        (main / "test.txt").write_text("000004\n")
        (main / "trainval.txt").write_text("000000\n000003\n")
    return root


def write_folders(root: Path, seeds: dict[str, range | list[int]]) -> Path:
    """Write class folders: place to the seeds of its images, ``{place}/{seed}.png``; an empty one for none."""
    for place, own in seeds.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for seed in own:
            write_image(root / place / f"{seed}.png", seed=seed)
    return root


def write_lots(root: Path, rows: str, lots: dict[str, int]) -> Path:
    """Write ``attributes.csv``, and for each lot its number of images, ``{lot}/{i}.png``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "attributes.csv").write_text(rows, encoding="utf-8")
    for number, (lot, count) in enumerate(lots.items()):
        for i in range(count):
            write_image(root / lot / f"{i}.png", seed=100 * number + i)
    return root


def read_as(root: Path, format_: str, name: str = "made-up", **data: Any) -> Dataset:
    """Read a folder as a format; "auto" detects it."""
    source = FolderSource(kind="folder", path=root)
    return read_dataset(root, DataConfig(source=source, format=format_, **data), name)
