"""What labelme and VGG Image Annotator write, made from a plain description of images."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.exports_xml import Made, write_made

__all__ = ["export_labelme", "export_via", "export_via3", "export_via_csv", "labelme_json", "via_entries"]

_COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


def labelme_json(image_path: str, shapes: list[dict[str, Any]], size: tuple[int, int] = (20, 16)) -> dict[str, Any]:
    """One file as labelme 5 saves it, without the bytes of the image."""
    full = [{"group_id": None, "description": "", "flags": {}, "mask": None, **shape} for shape in shapes]
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": full,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": size[1],
        "imageWidth": size[0],
    }


def export_labelme(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """A folder for each split, JSON beside the images; ``labels.txt`` with the classes in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(["__ignore__", "_background_", *classes]) + "\n", encoding="utf-8")
    for image in images:
        place = folder / image.split
        write_made(place / image.name, image.width, image.height)
        # labelme keeps corners as they were drawn: here from the lower right to the upper left
        shapes = [
            {"label": name, "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle"}
            for name, (x1, y1, x2, y2) in image.boxes
        ]
        content = labelme_json(image.name, shapes, (image.width, image.height))
        file = place / f"{image.name.rpartition('.')[0]}.json"
        file.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    return folder


def via_entries(images: Sequence[Made], attribute: str = "class") -> dict[str, Any]:
    """The images of an export of VIA 2, in rectangles."""
    entries = {}
    for image in images:
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1},
                "region_attributes": {attribute: name},
            }
            for name, (x1, y1, x2, y2) in image.boxes
        ]
        entries[f"{image.name}1234"] = {
            "filename": image.name,
            "size": 1234,
            "regions": regions,
            "file_attributes": {},
        }
    return entries


def _by_split(images: Sequence[Made]) -> dict[str, list[Made]]:
    groups: dict[str, list[Made]] = {}
    for image in images:
        groups.setdefault(image.split, []).append(image)
    return groups


def export_via(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """A project for each split in its folder, with the classes as options of a drop-down list."""
    attribute = {"type": "dropdown", "description": "", "options": dict.fromkeys(classes, ""), "default_options": {}}
    for split, members in _by_split(images).items():
        for image in members:
            write_made(folder / split / image.name, image.width, image.height)
        entries = via_entries(members)
        project = {
            "_via_settings": {"core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""}},
            "_via_img_metadata": entries,
            "_via_attributes": {"region": {"class": attribute}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(entries),
        }
        file = folder / split / "via_project_1Jan2024_10h0m.json"
        file.write_text(json.dumps(project, ensure_ascii=False), encoding="utf-8")
    return folder


def export_via_csv(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """One CSV and the images in a folder for each split."""
    del classes
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "via_export_csv.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(_COLUMNS)
        for image in images:
            name = f"{image.split}/{image.name}" if image.split else image.name
            write_made(folder / name, image.width, image.height)
            regions = next(iter(via_entries([image]).values()))["regions"]
            for i, region in enumerate(regions):
                cells = [json.dumps(region[key]) for key in ("shape_attributes", "region_attributes")]
                rows.writerow([name, 1234, "{}", len(regions), i, *cells])
            if not regions:
                rows.writerow([name, 1234, "{}", 0, 0, "{}", "{}"])
    return folder


def export_via3(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> Path:
    """A project of VIA 3; the classes are options of a list."""
    numbers = {name: str(i) for i, name in enumerate(classes)}
    files, views, metadata = {}, {}, {}
    for i, image in enumerate(images, start=1):
        name = f"{image.split}/{image.name}" if image.split else image.name
        write_made(folder / name, image.width, image.height)
        files[str(i)] = {"fid": str(i), "fname": name, "type": 2, "loc": 1, "src": ""}
        views[str(i)] = {"fid_list": [str(i)]}
        for j, (class_name, (x1, y1, x2, y2)) in enumerate(image.boxes):
            metadata[f"{i}_{j}"] = {
                "vid": str(i),
                "flg": 0,
                "z": [],
                "xy": [2, x1, y1, x2 - x1, y2 - y1],
                "av": {"1": numbers[class_name]},
            }
    attribute = {
        "aname": "kind",
        "anchor_id": "FILE1_Z0_XY1",
        "type": 4,
        "desc": "",
        "options": {number: name for name, number in numbers.items()},
        "default_option_id": "",
    }
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": list(views)},
        "config": {"file": {"loc_prefix": {"1": "", "2": ""}}},
        "attribute": {"1": attribute},
        "file": files,
        "metadata": metadata,
        "view": views,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "via3.json").write_text(json.dumps(project, ensure_ascii=False), encoding="utf-8")
    return folder
