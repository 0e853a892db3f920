"""Write exports of annotation tools from a plain description of images: ``export(folder, images, classes)``."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import pytest
import yaml
from PIL import Image

from visionops.data.dataset import Dataset

__all__ = [
    "Made",
    "assert_read_back",
    "export_coco",
    "export_csv",
    "export_cvat",
    "export_fiftyone",
    "export_label_studio",
    "export_label_studio_min",
    "export_labelme",
    "export_via",
    "export_via3",
    "export_via_csv",
    "export_voc",
    "export_yolo",
    "labelme_json",
    "rectangle",
    "task",
    "via_entries",
    "voc_text",
    "write_made",
]


_VIA_COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)


class Made(NamedTuple):
    """An image of a data set to export."""

    name: str
    width: int
    height: int
    boxes: list[tuple[str, tuple[float, float, float, float]]]
    """Class and continuous corners in pixels from 0."""
    split: str = ""


def write_made(path: Path, width: int, height: int) -> Path:
    """Write a grey image as PNG, whatever its suffix, because nothing decodes it here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path, "PNG")
    return path


def assert_read_back(dataset: Dataset, images: Sequence[Made], place: str) -> None:
    """Assert that a data set has these images at ``place``, such as ``images/{split}/{name}``, with split and boxes."""
    rows = {key: row for row, key in enumerate(dataset.column("key"))}
    keys = [place.format(split=image.split, name=image.name) for image in images]
    assert sorted(rows) == sorted(keys)
    for image, key in zip(images, keys, strict=True):
        row = rows[key]
        assert dataset.column("split")[row] == image.split
        boxes = dataset.boxes_of(row)
        assert [dataset.class_names[i] for i in boxes.class_ids] == [name for name, _ in image.boxes]
        assert [tuple(box) for box in boxes.xyxy.tolist()] == [pytest.approx(box, abs=1e-4) for _, box in image.boxes]


def export_voc(folder: Path, images: Sequence[Made], classes: Sequence[str] = ()) -> Path:
    """Write ``Annotations``, ``JPEGImages`` and lists of the splits, as in CVAT's Pascal VOC."""
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
    """Return a VOC file; corners are pixels from 1, inclusive, with fractions where there are any."""
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
    """Write a project of CVAT for images 1.1: ``annotations.xml``, and images below ``images/<subset>/``."""
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
    """Write ``annotations/instances_<split>.json`` and ``images/<split>/``, as in CVAT; ids count from 1 in each."""
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
    """Write ``data.yaml``, ``images/<split>/`` and ``labels/<split>/``, which replaces the last ``images`` of a
    path."""
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
    settings = {"path": "/datasets/x", **{split or "train": f"images/{split}" for split in splits}}
    settings["names"] = dict(enumerate(classes))  # type: ignore[assignment]
    _write(folder / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    return folder


def labelme_json(image_path: str, shapes: list[dict[str, Any]], size: tuple[int, int] = (20, 16)) -> dict[str, Any]:
    """Return a file as labelme 5 saves it, without the bytes of the image."""
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
    """Write a folder for each split, JSON beside the images; ``labels.txt`` with the classes in order."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(["__ignore__", "_background_", *classes]) + "\n", encoding="utf-8")
    for image in images:
        place = folder / image.split
        write_made(place / image.name, image.width, image.height)
        # labelme keeps the order in which corners were drawn: here from the lower right to the upper left
        shapes = [
            {"label": name, "points": [[x2, y2], [x1, y1]], "shape_type": "rectangle"}
            for name, (x1, y1, x2, y2) in image.boxes
        ]
        content = labelme_json(image.name, shapes, (image.width, image.height))
        file = place / f"{image.name.rpartition('.')[0]}.json"
        file.write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
    return folder


def via_entries(images: Sequence[Made], attribute: str = "class") -> dict[str, Any]:
    """Return the images of an export of VIA 2, as rectangles."""
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
    """Write a project for each split in its folder, with the classes as options of a drop-down list."""
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
    """Write one CSV and the images in a folder for each split."""
    del classes
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "via_export_csv.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(_VIA_COLUMNS)
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
    """Write a project of VIA 3; the classes are options of a list."""
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
    """Return a result in Label Studio's format."""
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
    """Return a task with one annotation."""
    own = {"id": 100 + number, "was_cancelled": False, "ground_truth": False, "updated_at": "2024-05-01T10:00:00Z"}
    return {
        "id": number,
        "annotations": [{**own, "completed_by": 1, "result": results, "lead_time": 3.2, **annotation}],
        "predictions": [],
        "data": {"image": url},
        "meta": {},
        "project": 3,
    }


def export_fiftyone(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> None:
    """Write an image detection dataset for each split, boxes in fractions."""
    labels: dict[str, dict[str, Any]] = {}
    for image in images:
        write_made(folder / image.split / "data" / image.name, image.width, image.height)
        size = (image.width, image.height)
        boxes = [
            {
                "label": list(classes).index(name),
                "bounding_box": [x1 / size[0], y1 / size[1], (x2 - x1) / size[0], (y2 - y1) / size[1]],
            }
            for name, (x1, y1, x2, y2) in image.boxes
        ]
        labels.setdefault(image.split, {})[image.name.rpartition(".")[0]] = boxes
    for split, own in labels.items():
        content = {"classes": list(classes), "labels": own}
        (folder / split / "labels.json").write_text(json.dumps(content), encoding="utf-8")


def export_label_studio(folder: Path, images: Sequence[Made], classes: Sequence[str]) -> None:
    """Write JSON of a project on local files, with percent-encoded URLs."""
    del classes
    for image in images:
        write_made(folder / image.name, image.width, image.height)
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
    """Write JSON-MIN, which has no label key where nothing was drawn."""
    del classes
    for image in images:
        write_made(folder / image.name, image.width, image.height)
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
    """Write a table in TensorFlow's format, with a split column."""
    del classes
    for image in images:
        write_made(folder / image.name, image.width, image.height)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax", "split"])
        for image in images:
            for class_name, box in image.boxes or [("", ("",) * 4)]:
                table.writerow([image.name, image.width, image.height, class_name, *box, image.split])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
