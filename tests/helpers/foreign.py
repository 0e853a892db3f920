"""Exports of tools without a reader, as small as the tool writes them: images of 200 x 100 with one box each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.helpers.datasets import write_image

__all__ = ["FOREIGN", "write_foreign"]

SIZE = (200, 100)
_XYWH = [20, 10, 40, 40]
_LTWH = {"left": 20, "top": 10, "width": 40, "height": 40}
_STEMS = ("a", "b")


def write_foreign(root: Path, name: str) -> None:
    """Write one of `FOREIGN`."""
    images, files = FOREIGN[name][:2]
    for i, image in enumerate(images):
        write_image(root / image, SIZE, seed=i)
    for place, content in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def _lines(records: list[Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def _table(rows: list[list[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream).writerows(rows)
    return stream.getvalue()


def _each(make: Any) -> list[Any]:
    return [make(stem) for stem in _STEMS]


def _images(place: str = "{}.jpg") -> tuple[str, ...]:
    return tuple(place.format(stem) for stem in _STEMS)


def _files(place: str, make: Any) -> dict[str, Any]:
    return {place.format(stem): make(stem) for stem in _STEMS}


def _coco_images() -> list[dict[str, Any]]:
    return [{"id": i, "file_name": f"{stem}.jpg", "width": 200, "height": 100} for i, stem in enumerate(_STEMS)]


def _supervisely(_: str) -> Any:
    box = {
        "geometryType": "rectangle", "tags": [], "classTitle": "pit",
        "points": {"exterior": [[20, 10], [60, 50]], "interior": []},
    }  # fmt: skip
    return {"description": "", "tags": [], "size": {"height": 100, "width": 200}, "objects": [box]}


def _darwin(stem: str) -> Any:
    slot = {"type": "image", "slot_name": "0", "width": 200, "height": 100, "source_files": []}
    box = {"id": "u", "name": "pit", "slot_names": ["0"], "bounding_box": {"x": 20, "y": 10, "w": 40, "h": 40}}
    return {"version": "2.0", "item": {"name": f"{stem}.jpg", "path": "/", "slots": [slot]}, "annotations": [box]}


def _darwin_1(stem: str) -> Any:
    image = {"filename": f"{stem}.jpg", "original_filename": f"{stem}.jpg", "width": 200, "height": 100, "path": "/"}
    return {"dataset": "d", "image": image, "annotations": [{"name": "pit", "bounding_box": {"x": 20, "y": 10}}]}


def _vott(stem: str) -> Any:
    asset = {"format": "jpg", "id": stem, "name": f"{stem}.jpg", "path": f"file:/C:/x/{stem}.jpg", "type": 1}
    return {"asset": asset, "regions": [{"id": "r", "type": "RECTANGLE", "tags": ["pit"], "boundingBox": _LTWH}]}


def _labelbox(stem: str) -> Any:
    labels = [{"annotations": {"objects": [{"name": "pit", "bounding_box": _LTWH}], "classifications": []}}]
    row = {"id": "ck", "external_id": f"{stem}.jpg", "row_data": f"https://storage.labelbox.com/{stem}.jpg"}
    return {"data_row": row, "media_attributes": {}, "projects": {"p": {"name": "P", "labels": labels}}}


def _labelbox_1(stem: str) -> Any:
    label = {"objects": [{"title": "pit", "bbox": _LTWH}], "classifications": []}
    return {"ID": "x", "Labeled Data": f"https://x/{stem}.jpg", "Label": label, "External ID": f"{stem}.jpg"}


def _superannotate(stem: str) -> Any:
    box = {"type": "bbox", "classId": 1, "className": "pit", "points": {"x1": 20, "x2": 60, "y1": 10, "y2": 50}}
    return {"metadata": {"name": f"{stem}.jpg", "width": 200, "height": 100}, "instances": [box], "tags": []}


def _dataloop(stem: str) -> Any:
    box = {"label": "pit", "type": "box", "coordinates": [{"x": 20, "y": 10, "z": 0}, {"x": 60, "y": 50, "z": 0}]}
    return {"_id": "x", "filename": f"/{stem}.jpg", "metadata": {"system": {}}, "annotations": [box]}


def _manifest(stem: str) -> Any:
    box = {"class_id": 0, **_LTWH}
    return {
        "source-ref": f"s3://bucket/p/{stem}.jpg",
        "boxes": {"image_size": [{"width": 200, "height": 100, "depth": 3}], "annotations": [box]},
        "boxes-metadata": {"class-map": {"0": "pit"}, "type": "groundtruth/object-detection"},
    }


def _createml(stem: str, folder: str = "") -> Any:
    box = {"label": "pit", "coordinates": {"x": 40, "y": 30, "width": 40, "height": 40}}
    return {"image": f"{folder}{stem}.jpg", "annotations": [box]}


def _makesense(stem: str) -> Any:
    return {"imagefilename": f"{stem}.jpg", "annotation": _createml(stem)["annotations"]}


def _hasty(stem: str) -> Any:
    box = {"class_name": "pit", "bbox": [20, 10, 60, 50], "polygon": None, "mask": None}
    return {"image_id": stem, "image_name": f"{stem}.jpg", "width": 200, "height": 100, "labels": [box]}


def _scale(stem: str) -> Any:
    annotations = [{"type": "box", "label": "pit", **_LTWH}]
    return {
        "task_id": stem, "type": "imageannotation", "params": {"attachment": f"https://x/{stem}.jpg"},
        "response": {"annotations": annotations},
    }  # fmt: skip


def _encord(stem: str) -> Any:
    labels = {"objects": [{"name": "pit", "boundingBox": {"x": 0.1, "y": 0.1, "w": 0.2, "h": 0.4}}]}
    return {"label_hash": "x", "data_title": f"{stem}.jpg", "data_units": {"h": {"labels": labels}}}


def _bdd(stem: str) -> Any:
    box = {"id": "1", "category": "pit", "box2d": {"x1": 20, "y1": 10, "x2": 60, "y2": 50}}
    return {"name": f"{stem}.jpg", "attributes": {}, "labels": [box]}


def _azure(stem: str) -> Any:
    box = {"label": "pit", "topX": 0.1, "topY": 0.1, "bottomX": 0.3, "bottomY": 0.5, "isCrowd": 0}
    return {"image_url": f"azureml://x/paths/images/{stem}.jpg", "image_details": {"width": "200px"}, "label": [box]}


def _vertex(stem: str) -> Any:
    box = {"displayName": "pit", "xMin": "0.1", "yMin": "0.1", "xMax": "0.3", "yMax": "0.5"}
    return {"imageGcsUri": f"gs://b/images/{stem}.jpg", "boundingBoxAnnotations": [box]}


def _ultralytics() -> list[Any]:
    head = {"type": "dataset", "task": "detect", "name": "x", "class_names": {"0": "pit"}, "version": 0}
    boxes = {"boxes": [[0, 0.2, 0.3, 0.2, 0.4]]}
    image = {"type": "image", "width": 200, "height": 100, "split": "train", "annotations": boxes}
    return [head, *({**image, "file": f"{stem}.jpg", "url": f"https://x/{stem}.jpg"} for stem in _STEMS)]


def _fiftyone(stem: str) -> Any:
    detections = [{"label": "pit", "bounding_box": [0.1, 0.1, 0.2, 0.4]}]
    return {"filepath": f"data/{stem}.jpg", "ground_truth": {"_cls": "Detections", "detections": detections}}


def _label_studio_row(stem: str) -> list[Any]:
    box = {"x": 10, "y": 10, "width": 20, "height": 40, "rotation": 0, "rectanglelabels": ["pit"]}
    return [f"/data/upload/1/0123abcd-{stem}.jpg", 1, json.dumps([box]), 1, 1, "2020-01-01", "2020-01-01", 1.5]


_LABEL_STUDIO = ["image", "id", "label", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"]


def _parquet() -> bytes:
    picture, table = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (20, 10)).save(picture, "PNG")
    objects = {"bbox": [[1.0, 2.0, 3.0, 4.0]], "categories": [0]}
    pq.write_table(pa.table({"image": [{"bytes": picture.getvalue(), "path": "a.png"}], "objects": [objects]}), table)
    return table.getvalue()


def _mask() -> bytes:
    pixels = np.zeros((100, 200), np.uint8)
    pixels[10:50, 20:60] = 1
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


_KITTI = (
    "Car 0.00 0 -1.58 20.00 10.00 60.00 50.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
    "DontCare -1 -1 -10 0.00 0.00 10.00 10.00 -1 -1 -1 -1000 -1000 -1000 -10\n"
)
_RESULT = [{"image_id": 1, "category_id": 1, "bbox": _XYWH, "score": 0.9}]
_CAMERAS = ("left/a.jpg", "right/b.jpg")
"""Folders that are not classes."""

FOREIGN: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any], str]] = {
    "supervisely": (
        _images("ds/img/{}.jpg"),
        {
            "meta.json": {"classes": [{"title": "pit", "shape": "rectangle", "color": "#f00"}], "tags": []},
            **_files("ds/ann/{}.jpg.json", _supervisely),
        },
        "Supervisely",
    ),
    "darwin": (_images("images/{}.jpg"), _files("releases/latest/annotations/{}.json", _darwin), "V7 Darwin"),
    "darwin 1": (_images(), _files("{}.json", _darwin_1), "V7 Darwin"),
    "datumaro": (
        _images("images/default/{}.jpg"),
        {
            "annotations/default.json": {
                "info": {},
                "categories": {"label": {"labels": [{"name": "pit", "parent": ""}]}},
                "items": _each(lambda stem: {"id": stem, "annotations": [{"type": "bbox", "bbox": _XYWH}]}),
            }
        },
        "Datumaro",
    ),
    "vott": (
        _images(),
        {"p-export.json": {"name": "p", "tags": [], "assets": {stem: _vott(stem) for stem in _STEMS}}},
        "VoTT",
    ),
    "vott asset": (_images(), _files("0f{}-asset.json", _vott), "VoTT"),
    "vott 1": (_images(), {"f.json": {"frames": {"a.jpg": []}, "framerate": "1", "inputTags": "pit"}}, "VoTT"),
    "labelbox": (_images(), {"export.ndjson": _lines(_each(_labelbox))}, "Labelbox"),
    "labelbox list": (_images(), {"export.json": _each(_labelbox)}, "Labelbox"),
    "labelbox 1": (_images(), {"export.json": _each(_labelbox_1)}, "Labelbox"),
    "labelbox csv": (
        _images(),
        {
            "e.csv": _table(
                [
                    ["ID", "Labeled Data", "Label", "External ID"],
                    *([s, f"https://x/{s}.jpg", json.dumps(_labelbox_1(s)["Label"]), f"{s}.jpg"] for s in _STEMS),
                ]
            )
        },
        "Labelbox",
    ),
    "label studio csv": (_images(), {"p.csv": _table([_LABEL_STUDIO, *_each(_label_studio_row)])}, "Label Studio"),
    "scale": (_images(), {"tasks.json": _each(_scale)}, "Scale AI"),
    "superannotate": (
        _images(),
        {
            "classes/classes.json": [{"id": 1, "name": "pit", "color": "#0", "attribute_groups": []}],
            **_files("{}.jpg___objects.json", _superannotate),
        },
        "SuperAnnotate",
    ),
    "dataloop": (_images("items/{}.jpg"), _files("json/{}.json", _dataloop), "Dataloop"),
    "ground truth": (_images("images/{}.jpg"), {"output.manifest": _lines(_each(_manifest))}, "SageMaker Ground Truth"),
    "ground truth jsonl": (_CAMERAS, {"train.jsonl": _lines(_each(_manifest))}, "SageMaker Ground Truth"),
    "ground truth json": (_images(), {"train.json": _lines(_each(_manifest))}, "SageMaker Ground Truth"),
    "create ml": (
        ("train/a.jpg", "valid/b.jpg"),
        {
            "train/_annotations.createml.json": [_createml("a")],
            "valid/_annotations.createml.json": [{"image": "b.jpg", "annotations": []}],
        },
        "Create ML",
    ),
    "create ml of labelimg": (_images(), _files("{}.json", lambda stem: [_createml(stem)]), "Create ML"),
    "create ml of makesense": (_images(), {"a.json": _each(_makesense)}, "Create ML"),
    "create ml below folders": (_CAMERAS, {"x.json": [_createml("a", "left/"), _createml("b", "right/")]}, "Create ML"),
    "tfrecord": (
        (),
        {"train/p.tfrecord": b"\x10\0\0\0\0\0\0\0", "train/p_label_map.pbtxt": "item { name: 'pit', id: 1 }"},
        "TFRecord",
    ),
    "tfrecord shards": (
        (),
        {"train.tfrecord-00000-of-00002": b"\x10\0", "train.tfrecord-00001-of-00002": b""},
        "TFRec",
    ),
    "coco results": (_images(), {"predictions.json": _RESULT}, "COCO results"),
    "coco results below folders": (_CAMERAS, {"predictions.json": _RESULT}, "COCO results"),
    "coco captions": (
        _images(),
        {"captions.json": {"images": _coco_images(), "annotations": [{"id": 1, "image_id": 0, "caption": "x"}]}},
        "COCO captions",
    ),
    "coco of a test set": (
        _images(),
        {"image_info.json": {"images": _coco_images(), "categories": [{"id": 1, "name": "pit"}]}},
        "COCO without annotations",
    ),
    "coco without categories": (
        _images(),
        {"x.json": {"images": _coco_images(), "annotations": [{"id": 1, "image_id": 0, "bbox": _XYWH}]}},
        "COCO without categories",
    ),
    "ultralytics": (_images("images/{}.jpg"), {"x.ndjson": _lines(_ultralytics())}, "Ultralytics NDJSON"),
    "ultralytics alone": ((), {"x.ndjson": _lines(_ultralytics())}, "Ultralytics NDJSON"),
    "bdd100k": (_images("images/train/{}.jpg"), {"labels/det_train.json": _each(_bdd)}, "Scalabel"),
    "bdd100k frames": (_images(), {"x.json": {"frames": _each(_bdd), "config": {}}}, "Scalabel"),
    "wider face": (
        ("WIDER_train/images/0--Parade/a.jpg", "WIDER_train/images/1--Meeting/b.jpg"),
        {"split/train_bbx_gt.txt": "0--Parade/a.jpg\n1\n20 10 40 40 0 0 0 0 0 0 \n1--Meeting/b.jpg\n0\n0 0 0 0 0\n"},
        "WIDER FACE",
    ),
    "mot": (
        ("seq1/img1/000001.jpg", "seq2/img1/000001.jpg"),
        {f"seq{n}/gt/gt.txt": "1,1,20,10,40,40,1,1,1.0\n2,1,20,10,40,40,1,1,1.0\n" for n in (1, 2)},
        "MOT",
    ),
    "visdrone": (
        _images("images/{}.jpg"),
        _files("annotations/{}.txt", lambda _: "20,10,40,40,1,4,0,0\n30,10,20,20,0,0,0,0\n"),
        "VisDrone",
    ),
    "kitti": (_images("image_2/{}.png"), _files("label_2/{}.txt", lambda _: _KITTI), "KITTI"),
    "kitti beside": (_images("train/images/{}.png"), _files("train/labels/{}.txt", lambda _: _KITTI), "KITTI"),
    "bbox-label-tool": (
        _images("Images/001/{}.jpg"),
        _files("Labels/001/{}.txt", lambda _: "1\n20 10 60 50 pit\n"),
        "BBox-Label-Tool",
    ),
    "icdar": (_images(), _files("gt_{}.txt", lambda _: "20,10,60,10,60,50,20,50,HELLO\n"), "ICDAR"),
    "keras-yolo": (
        _images("train/{}.jpg"),
        {"train/_annotations.txt": "a.jpg 20,10,60,50,0 1,2,3,4,0\nb.jpg\n", "train/_classes.txt": "pit\n"},
        "keras-yolo3",
    ),
    "cityscapes": (
        _images("leftImg8bit/train/aachen/{}_leftImg8bit.png"),
        _files(
            "gtFine/train/aachen/{}_gtFine_polygons.json",
            lambda _: {
                "imgHeight": 100,
                "imgWidth": 200,
                "objects": [{"label": "car", "polygon": [[20, 10], [60, 50]]}],
            },
        ),
        "Cityscapes",
    ),
    "fiftyone": (_images("data/{}.jpg"), {"samples.json": {"samples": _each(_fiftyone)}}, "FiftyOne"),
    "hasty": (
        _images("images/{}.jpg"),
        {"x.json": {"project_name": "p", "label_classes": [{"class_name": "pit"}], "images": _each(_hasty)}},
        "Hasty",
    ),
    "encord": (_images(), {"labels.json": _each(_encord)}, "Encord"),
    "azure": (_images("images/{}.jpg"), {"labels.jsonl": _lines(_each(_azure))}, "Azure ML"),
    "vertex": (_images("images/{}.jpg"), {"import.jsonl": _lines(_each(_vertex))}, "Vertex AI"),
    "sloth": (
        _images(),
        {"l.json": _each(lambda stem: {"class": "image", "filename": f"{stem}.jpg", "annotations": []})},
        "Sloth",
    ),
    "paligemma": (
        _images("dataset/{}.jpg"),
        {
            "dataset/_annotations.train.jsonl": _lines(
                _each(lambda stem: {"image": f"{stem}.jpg", "prefix": "detect pit", "suffix": "<loc0102> pit"})
            )
        },
        "language model",
    ),
    "parquet with images": ((), {"data/train-00000-of-00001.parquet": _parquet()}, "Parquet that holds the images"),
    "masks": (_images("images/{}.jpg"), {f"masks/{stem}.png": _mask() for stem in _STEMS}, "2 masks"),
    "masks of splits": (
        ("images/train/a.jpg", "images/val/b.jpg"),
        {"annotations/train/a.png": _mask(), "annotations/val/b.png": _mask()},
        "2 masks",
    ),
    "masks beside": (
        ("train/1.png", "test/2.png"),
        {"train/1_GT.png": _mask(), "test/2_GT.png": _mask()},
        "2 masks",
    ),
    "severstal": (
        _images("train_images/{}.jpg"),
        {"train.csv": "ImageId,ClassId,EncodedPixels\na.jpg,1,29102 12 29346 24\nb.jpg,3,18661 28\na.jpg,3,2 3\n"},
        "a table of run-length masks",
    ),
    "prediction strings": (
        _images("train/{}.jpg"),
        {"train.csv": "image_id,PredictionString\na,0 0.9 20 10 60 50\nb,14 1 0 0 1 1\n"},
        "all boxes of an image in one cell",
    ),
    "polygons": (
        _images(),
        {"t.csv": 'filename,label,polygon\na.jpg,pit,"[[20, 10], [60, 10], [60, 50]]"\nb.jpg,dent,"[]"\n'},
        "a table of polygons",
    ),
    "points": (_images(), {"t.csv": "filename,label,x,y\na.jpg,pit,60,50\nb.jpg,dent,20,10\n"}, "a table of points"),
    "points of makesense": (_images(), {"t.csv": "pit,60,50,a.jpg,200,100\ndent,1,2,b.jpg,200,100\n"}, "makesense.ai"),
    "labels of makesense": (_images(), {"t.csv": 'a.jpg,"[pit, dent]"\nb.jpg,[pit]\n'}, "makesense.ai"),
    "deeppcb": (
        ("group1/00041/00041000_test.jpg", "group2/12000/12000001_test.jpg"),
        {"group1/00041_not/00041000.txt": "466 441 493 470 3\n", "group2/12000_not/12000001.txt": "1 2 3 4 5\n"},
        "DeepPCB",
    ),
    "camvid": (("default/a.png", "defaultannot/a.png"), {"default.txt": "default/a.png defaultannot/a.png\n"}, "annot"),
    "images and others": (("images/a.png", "colours/a.png"), {}, "2 folders of images (colours, images)"),
    "old spreadsheet": (_images(), {"boxes.xls": b"\xd0\xcf\x11\xe0"}, "a spreadsheet of the kind .xls"),
    "detections by name": (
        _images("images/{}.jpg"),
        _files("detections/{}.txt", lambda _: "pit 0.9 20 10 60 50\n"),
        "class names and boxes",
    ),
    "oidv4": (
        ("train/Apple/a.jpg", "train/Orange/b.jpg"),
        {"train/Apple/Label/a.txt": "Apple 20 10 60 50\n", "train/Orange/Label/b.txt": "Orange 20 10 60 50\n"},
        "class names and boxes",
    ),
    "yolo with names": (_images(), _files("{}.txt", lambda _: "pit 0.2 0.3 0.2 0.4\n"), "class names and boxes"),
    "yolo far away": (_CAMERAS, _files("boxes/{}.txt", lambda _: "0 0.2 0.3 0.2 0.4\n"), "the names of images"),
    "unknown by name": (_CAMERAS, _files("x/{}.json", lambda _: {"boxes": [_XYWH]}), "the names of images"),
    "unknown of all": (_CAMERAS, {"x.json": {"a.jpg": [{"bbox": _XYWH, "label": "pit"}]}}, "by the images it names"),
    "unknown list": (
        _CAMERAS,
        {"x.json": json.dumps([{"file": "left\\a.jpg", "polygon": [[1, 2], [3, 4], [5, 6]]}], indent=4)},
        "by the images it names",
    ),
    "coco as text": (
        _CAMERAS,
        {"x.txt": json.dumps({"images": _coco_images(), "annotations": [{"bbox": _XYWH}]})},
        "by the images it names",
    ),
    "hugging face by another name": (
        _CAMERAS,
        {"x.jsonl": _lines([{"file_name": "left/a.jpg", "objects": {"bbox": [_XYWH], "categories": [0]}}])},
        "by the images it names",
    ),
    "page": (_CAMERAS, {"x.xml": '<PcGts><Page imageFilename="a.jpg"><Coords points="1,2"/></Page></PcGts>'}, "names"),
    "packed": (_CAMERAS, {"annotations.json.gz": b"\x1f\x8b\x08\0"}, "a packed file, perhaps of labels"),
    "damaged json": (_CAMERAS, {"annotations.json": '{"images": [{"id": 1, "file_na'}, "JSON that is damaged"),
    "list of classes": (_images(), {"labels.txt": "a.jpg 0\nb.jpg 1\n"}, "a list of images and what they are"),
    "classes by image": (_images(), {"labels.json": {"a.jpg": "pit", "b.jpg": "ok"}}, "JSON by the names of images"),
    "unknown beside": (
        _CAMERAS,
        {"left/a.json": {"x": 1}, "right/b.json": {"x": 2}},
        "2 files with the names of images",
    ),
}
"""Images, files, and the text that the message must contain, keyed by name."""
