"""Write YOLO exports of Ultralytics, CVAT, Label Studio and labelImg from a plain description of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import yaml

from tests.helpers.exports import Made, write_made

__all__ = ["EXPORTS", "export_cvat_yolo", "export_label_studio_yolo", "export_labelimg_yolo", "export_ultralytics"]


def export_ultralytics(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """Write ``data.yaml``, ``images/{split}``, ``labels/{split}``; images without an object have no label file."""
    splits = dict.fromkeys(image.split or "train" for image in images)
    for image in images:
        split = image.split or "train"
        write_made(folder / "images" / split / image.name, image.width, image.height)
        if image.boxes:
            _write(folder / "labels" / split / f"{_stem(image)}.txt", _lines(image, classes))
    settings = {"path": "/content/x", **{s: f"images/{s}" for s in splits}, "names": dict(enumerate(classes))}
    _write(folder / "data.yaml", yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
    return folder


def export_cvat_yolo(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """Write CVAT YOLO 1.1: ``obj.data``, ``obj.names``, ``{split}.txt``, images and labels in ``obj_{split}_data``."""
    listed: dict[str, list[str]] = {}
    for image in images:
        split = image.split or "train"
        place = f"obj_{split}_data/{image.name}"
        write_made(folder / place, image.width, image.height)
        _write(folder / f"obj_{split}_data" / f"{_stem(image)}.txt", _lines(image, classes))
        listed.setdefault(split, []).append(f"data/{place}\n")
    for split, names in listed.items():
        _write(folder / f"{split}.txt", "".join(names))
    lists = "".join(f"{split} = data/{split}.txt\n" for split in listed)
    _write(folder / "obj.data", f"classes = {len(classes)}\n{lists}names = data/obj.names\nbackup = backup/\n")
    _write(folder / "obj.names", "".join(f"{name}\n" for name in classes))
    return folder


def export_label_studio_yolo(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """Write ``images``, ``labels`` with percent-encoded names, ``classes.txt``; the format has no splits."""
    for image in images:
        write_made(folder / "images" / image.name, image.width, image.height)
        _write(folder / "labels" / f"{quote(_stem(image))}.txt", _lines(image, classes))
    _write(folder / "classes.txt", "\n".join(classes))
    return folder


def export_labelimg_yolo(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """Write label files beside the images, and ``classes.txt``."""
    for image in images:
        write_made(folder / image.name, image.width, image.height)
        if image.boxes:
            _write(folder / f"{_stem(image)}.txt", _lines(image, classes))
    _write(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    return folder


EXPORTS: tuple[Callable[[Path, Sequence[Made], Sequence[str]], Path], ...] = (
    export_ultralytics,
    export_cvat_yolo,
    export_label_studio_yolo,
    export_labelimg_yolo,
)


def _stem(image: Made) -> str:
    return image.name.rpartition(".")[0]


def _lines(image: Made, classes: Sequence[str]) -> str:
    lines = []
    for name, (x1, y1, x2, y2) in image.boxes:
        values = (
            (x1 + x2) / 2 / image.width,
            (y1 + y2) / 2 / image.height,
            (x2 - x1) / image.width,
            (y2 - y1) / image.height,
        )
        lines.append(" ".join((str(list(classes).index(name)), *(f"{value:.9f}" for value in values))) + "\n")
    return "".join(lines)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
