"""What annotation tools write, made from a plain description of images: ``export(folder, images, classes)``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import yaml
from PIL import Image

__all__ = [
    "Made",
    "export_coco",
    "export_csv",
    "export_cvat",
    "export_label_studio",
    "export_labelme",
    "export_via",
    "export_voc",
    "export_yolo",
    "voc_text",
    "write_made",
]


class Made(NamedTuple):
    """One image of a data set to export."""

    name: str
    width: int
    height: int
    boxes: list[tuple[str, tuple[float, float, float, float]]]
    """Class and continuous corners in pixels from 0."""
    split: str = ""


def write_made(path: Path, width: int, height: int) -> Path:
    """A grey image; PNG whatever its name says, as nothing decodes it here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path, "PNG")
    return path


def export_voc(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """``Annotations``, ``JPEGImages`` and lists of the splits, as CVAT's Pascal VOC has them."""
    del classes
    for image in images:
        write_made(folder / "JPEGImages" / image.name, image.width, image.height)
        stem = image.name.rpartition(".")[0]
        file = folder / "Annotations" / f"{stem}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(voc_text(image), encoding="utf-8")
        if image.split:
            listed = folder / "ImageSets" / "Main" / f"{image.split}.txt"
            listed.parent.mkdir(parents=True, exist_ok=True)
            with listed.open("a", encoding="utf-8", newline="\n") as lines:
                lines.write(f'"{stem}"\n' if " " in stem else f"{stem}\n")
    return folder


def voc_text(image: Made) -> str:
    """One VOC file; corners are pixels from 1, the last included, with fractions where there are any."""
    objects = "".join(
        f"<object><name>{escape(name)}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{x1 + 1!r}</xmin><ymin>{y1 + 1!r}</ymin><xmax>{x2!r}</xmax><ymax>{y2!r}</ymax>"
        "</bndbox></object>"
        for name, (x1, y1, x2, y2) in image.boxes
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotation verified="yes"><folder>images</folder>'
        f"<filename>{escape(image.name)}</filename><path>C:\\Users\\me\\{escape(image.name)}</path>"
        f"<source><database>Unknown</database></source><size><width>{image.width}</width><height>{image.height}</height>"
        f"<depth>3</depth></size><segmented>0</segmented>{objects}</annotation>"
    )


def export_cvat(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """A project of CVAT for images 1.1: ``annotations.xml``, and images below ``images/<subset>/``."""
    labels = "".join(
        f"<label><name>{escape(name)}</name><color>#fa3253</color><type>any</type><attributes></attributes></label>"
        for name in classes
    )
    rows = []
    for index, image in enumerate(images):
        subset = f" subset={quoteattr(image.split)}" if image.split else ""
        boxes = "".join(
            f'<box label={quoteattr(name)} source="manual" occluded="0" xtl="{x1!r}" ytl="{y1!r}" xbr="{x2!r}" '
            f'ybr="{y2!r}" z_order="0"></box>'
            for name, (x1, y1, x2, y2) in image.boxes
        )
        rows.append(
            f'<image id="{index}" name={quoteattr(image.name)}{subset} task_id="1" width="{image.width}" '
            f'height="{image.height}">{boxes}</image>'
        )
        write_made(folder / "images" / image.split / image.name, image.width, image.height)
    text = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><project><id>1</id>'
        f"<labels>{labels}</labels></project><dumped>2024-01-01</dumped></meta>{''.join(rows)}</annotations>"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder


def export_coco(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """``annotations/instances_<split>.json`` and ``images/<split>/``, as CVAT has them; ids count from 1 in each."""
    for split in dict.fromkeys(image.split for image in images):
        subset = [image for image in images if image.split == split]
        rows: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, image in enumerate(subset, start=1):
            write_made(folder / "images" / split / image.name, image.width, image.height)
            row = {"id": image_id, "width": image.width, "height": image.height, "file_name": image.name}
            rows.append({**row, "license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0})
            for name, (x1, y1, x2, y2) in image.boxes:
                box = [x1, y1, x2 - x1, y2 - y1]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": classes.index(name) + 1,
                        "segmentation": [],
                        "area": box[2] * box[3],
                        "bbox": box,
                        "iscrowd": 0,
                        "attributes": {"occluded": False, "rotation": 0.0},
                    }
                )
        content = {
            "licenses": [{"name": "", "id": 0, "url": ""}],
            "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
            "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes, start=1)],
            "images": rows,
            "annotations": annotations,
        }
        _write(folder / "annotations" / f"instances_{split or 'default'}.json", json.dumps(content, ensure_ascii=False))
    return folder


def export_yolo(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """``data.yaml``, ``images/<split>/`` and ``labels/<split>/``, which replaces the last ``images`` of a path."""
    for image in images:
        path = write_made(folder / "images" / image.split / image.name, image.width, image.height)
        lines = []
        for name, (x1, y1, x2, y2) in image.boxes:
            cx, cy = (x1 + x2) / 2 / image.width, (y1 + y2) / 2 / image.height
            lines.append(
                f"{classes.index(name)} {cx!r} {cy!r} {(x2 - x1) / image.width!r} {(y2 - y1) / image.height!r}"
            )
        head, _, tail = path.relative_to(folder).as_posix().rpartition("images/")
        _write(folder / f"{head}labels/{tail.rpartition('.')[0]}.txt", "".join(f"{line}\n" for line in lines))
    splits = dict.fromkeys(image.split for image in images)
    settings = {"path": "/home/me/datasets/x", **{split or "train": f"images/{split}" for split in splits}}
    settings["names"] = dict(enumerate(classes))  # type: ignore[assignment]
    _write(folder / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    return folder


def export_labelme(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """``<split>/a.json`` beside ``<split>/a.png``: rectangles of two corners, in any order."""
    del classes
    for image in images:
        path = write_made(folder / image.split / image.name, image.width, image.height)
        shapes = [
            {
                "label": name,
                "points": [[x1, y1], [x2, y2]] if i % 2 == 0 else [[x2, y1], [x1, y2]],
                "group_id": None,
                "description": "",
                "shape_type": "rectangle",
                "flags": {},
                "mask": None,
            }
            for i, (name, (x1, y1, x2, y2)) in enumerate(image.boxes)
        ]
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": path.name,
            "imageData": None,
            "imageHeight": image.height,
            "imageWidth": image.width,
        }
        text = json.dumps(content, ensure_ascii=False, indent=2)
        _write(path.with_name(f"{path.name.rpartition('.')[0]}.json"), text)
    return folder


def export_label_studio(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """``project.json`` of tasks whose images lie in local storage: quoted paths, percent of the width and height."""
    del classes
    tasks = []
    for number, image in enumerate(images, start=1):
        name = f"{image.split}/{image.name}" if image.split else image.name
        write_made(folder / "images" / name, image.width, image.height)
        results = [
            {
                "id": f"r{i}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "origin": "manual",
                "original_width": image.width,
                "original_height": image.height,
                "image_rotation": 0,
                "value": {
                    "x": x1 / image.width * 100,
                    "y": y1 / image.height * 100,
                    "width": (x2 - x1) / image.width * 100,
                    "height": (y2 - y1) / image.height * 100,
                    "rotation": 0,
                    "rectanglelabels": [class_name],
                },
            }
            for i, (class_name, (x1, y1, x2, y2)) in enumerate(image.boxes)
        ]
        annotation = {"id": number, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "result": results}
        data = {"image": f"/data/local-files/?d={quote(f'images/{name}')}"}
        tasks.append({"id": number, "annotations": [annotation], "predictions": [], "data": data, "project": 1})
    _write(folder / "project.json", json.dumps(tasks, ensure_ascii=False))
    return folder


def export_via(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """``via_project.json`` of VIA 2, beside the images it names."""
    entries = {}
    for image in images:
        path = write_made(folder / image.name, image.width, image.height)
        size = path.stat().st_size
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1},
                "region_attributes": {"class": name},
            }
            for name, (x1, y1, x2, y2) in image.boxes
        ]
        entry = {"filename": image.name, "size": size, "regions": regions, "file_attributes": {}}
        entries[f"{image.name}{size}"] = entry
    options = dict.fromkeys(classes, "")
    content = {
        "_via_settings": {"core": {"filepath": {}, "default_filepath": ""}, "project": {"name": "x"}},
        "_via_img_metadata": entries,
        "_via_attributes": {
            "region": {"class": {"type": "radio", "description": "", "options": options, "default_options": {}}},
            "file": {},
        },
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(entries),
    }
    _write(folder / "via_project.json", json.dumps(content, ensure_ascii=False))
    return folder


def export_csv(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """``annotations.csv`` with a row a box, as Roboflow's Tensorflow export has it."""
    del classes
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"))
    for image in images:
        write_made(folder / image.name, image.width, image.height)
        writer.writerows((image.name, image.width, image.height, name, *box) for name, box in image.boxes)
    _write(folder / "annotations.csv", text.getvalue())
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
