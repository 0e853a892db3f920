"""Exports as Label Studio and the writers of detection CSVs make them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.helpers.datasets import write_image

__all__ = ["Made", "export_csv", "export_label_studio", "export_label_studio_min"]


class Made(NamedTuple):
    name: str
    width: int
    height: int
    boxes: list[tuple[str, tuple[float, float, float, float]]]
    split: str = ""


def _write_images(folder: Path, images: Sequence[Made]) -> None:
    for i, image in enumerate(images):
        write_image(folder / image.name, (image.width, image.height), seed=i, format="PNG")


def _value(image: Made, class_name: str, box: tuple[float, float, float, float]) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    sx, sy = 100 / image.width, 100 / image.height
    return {
        "x": x1 * sx,
        "y": y1 * sy,
        "width": (x2 - x1) * sx,
        "height": (y2 - y1) * sy,
        "rotation": 0,
        "rectanglelabels": [class_name],
    }


def rectangle(image: Made, class_name: str, box: tuple[float, float, float, float], **value: Any) -> dict[str, Any]:
    """A result as Label Studio writes it."""
    return {
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "value": {**_value(image, class_name, box), **value},
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
    }


def task(number: int, url: str, results: list[dict[str, Any]], **annotation: Any) -> dict[str, Any]:
    """A task with one annotation."""
    own = {"id": 100 + number, "was_cancelled": False, "ground_truth": False, "updated_at": "2024-05-01T10:00:00Z"}
    return {
        "id": number,
        "annotations": [{**own, "completed_by": 1, "result": results, "lead_time": 3.2, **annotation}],
        "predictions": [],
        "data": {"image": url},
        "meta": {},
        "project": 3,
    }


def export_label_studio(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> None:
    """JSON of a project on local files: percent-encoded URLs."""
    del classes
    _write_images(folder, images)
    tasks = [
        task(
            n,
            f"/data/local-files/?d={quote(f'parts/{image.name}')}",
            [{**rectangle(image, c, b), "id": f"r{i}"} for i, (c, b) in enumerate(image.boxes)],
        )
        for n, image in enumerate(images, start=1)
    ]
    (folder / "project-3.json").write_text(json.dumps(tasks), encoding="utf-8")


def export_label_studio_min(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> None:
    """JSON-MIN: no label key where nothing was drawn."""
    del classes
    _write_images(folder, images)
    records = []
    for n, image in enumerate(images, start=1):
        drawn = [
            {**_value(image, c, b), "original_width": image.width, "original_height": image.height}
            for c, b in image.boxes
        ]
        record = {"image": f"s3://bucket/parts/{image.name}", "id": n, **({"label": drawn} if drawn else {})}
        records.append({**record, "annotator": 1, "annotation_id": 50 + n, "lead_time": 1.5})
    (folder / "project-3-min.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")


def export_csv(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> None:
    """A table of TensorFlow's kind, with a split column."""
    del classes
    _write_images(folder, images)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "split"])
        for image in images:
            for class_name, box in image.boxes or [("", ("",) * 4)]:
                table.writerow([image.name, image.width, image.height, class_name, *box, image.split])
