"""Recognize JSON and JSON lines of tools that no reader supports, by their keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from visionops.data.formats.foreign.files import COCO_OR_YOLO, LINE_SUFFIXES, UnsupportedLabels, head_lines, sample
from visionops.data.listing import Listing
from visionops.errors import AnnotationError

__all__ = ["find_json", "find_json_lines"]

_MOST_JSON = 1 << 28
"""Maximum size of a file to parse, in bytes."""
_FIFTYONE = "export as FiftyOneImageDetectionDataset or FiftyOneImageClassificationDataset"


class _Signature(NamedTuple):
    what: str
    fix: str
    paths: tuple[str, ...]
    """Keys that must all exist; ``a.b`` is nested, ``[]`` is the first item of a list, ``*`` is the first value."""


_OF_OBJECT = (
    _Signature("Supervisely JSON", COCO_OR_YOLO, ("objects", "size.height", "tags")),
    _Signature("the classes of a Supervisely project", COCO_OR_YOLO, ("classes.[].title", "classes.[].shape")),
    _Signature("V7 Darwin JSON", "export as COCO or CVAT", ("annotations", "item.slots")),
    _Signature("V7 Darwin JSON", "export as COCO or CVAT", ("annotations", "image.filename", "image.path")),
    _Signature("Datumaro JSON", "convert with datum convert -f coco", ("items", "categories.label.labels")),
    _Signature("a VoTT project", "export as Pascal VOC or CSV", ("assets.*.asset", "tags")),
    _Signature("VoTT JSON", "export as Pascal VOC or CSV", ("asset.path", "regions")),
    _Signature("VoTT 1 JSON", "export as Pascal VOC or CSV", ("frames", "framerate", "inputTags")),
    _Signature("SuperAnnotate JSON", "convert to COCO with its SDK", ("instances", "metadata.name")),
    _Signature("the classes of SuperAnnotate", "convert to COCO with its SDK", ("[].attribute_groups", "[].name")),
    _Signature("Dataloop JSON", "export as COCO or YOLO", ("filename", "annotations", "metadata.system")),
    _Signature("Dataloop JSON", "export as COCO or YOLO", ("filename", "annotations.[].coordinates")),
    _Signature("Hasty JSON", "export as COCO", ("label_classes", "images.[].image_name")),
    _Signature("Segments.ai JSON", "export as COCO or YOLO", ("dataset.samples", "name")),
    _Signature("Scalabel (BDD100K) JSON", "convert to COCO with scalabel", ("frames.[].labels",)),
    _Signature("FiftyOne's own JSON", _FIFTYONE, ("classes", "labels.*")),
    _Signature("FiftyOne's own JSON", _FIFTYONE, ("samples.[].filepath",)),
    _Signature("Cityscapes JSON (polygons of scenes)", "convert to COCO", ("imgHeight", "objects.[].polygon")),
    _Signature("COCO captions", "use the files instances_*.json", ("images", "annotations.[].caption")),
    _Signature("COCO without categories", "add categories, or export it again", ("images.[].file_name", "annotations")),
    _Signature("COCO without annotations", "add the annotations", ("images.[].file_name",)),
)
_OF_RECORD = (
    _Signature("a manifest of SageMaker Ground Truth or Rekognition", "convert it to COCO", ("source-ref",)),
    _Signature("Labelbox JSON", "convert it to COCO", ("data_row.row_data",)),
    _Signature("Labelbox JSON", "convert it to COCO", ("data_row.id", "projects")),
    _Signature("Labelbox JSON", "convert it to COCO", ("Labeled Data", "Label")),
    _Signature("a list of Scale AI's tasks", "convert it to COCO", ("task_id", "params")),
    _Signature("Create ML JSON", COCO_OR_YOLO, ("image", "annotations")),
    _Signature("Create ML JSON", COCO_OR_YOLO, ("imagefilename", "annotation")),
    _Signature("Scalabel (BDD100K) JSON", "convert to COCO with scalabel", ("name", "labels.[].category")),
    _Signature("Encord JSON", "export as COCO", ("label_hash", "data_units")),
    _Signature("Kili JSON", "export as COCO or YOLO", ("externalId", "labels")),
    _Signature("Sloth JSON", COCO_OR_YOLO, ("class", "filename", "annotations")),
    _Signature("a list of COCO results (predictions)", "use the annotations", ("image_id", "category_id")),
    _Signature("Ultralytics NDJSON", "export the data set as YOLO", ("type", "class_names")),
    _Signature("Azure ML JSON lines", "export as COCO", ("image_url", "label")),
    _Signature("JSON lines of Vertex AI", COCO_OR_YOLO, ("imageGcsUri",)),
    _Signature("JSON lines for a language model", COCO_OR_YOLO, ("image", "prefix", "suffix")),
    _Signature("JSON lines for a language model", COCO_OR_YOLO, ("messages.[].role",)),
)
_OF_PANOPTIC = _Signature("COCO panoptic", "use the files instances_*.json", ("annotations.[].segments_info",))


def find_json(listing: Listing) -> UnsupportedLabels | None:
    """Find a JSON file of another tool, or a damaged one."""
    for name in sample(listing, listing.by_suffix.get(".json", ())):
        if listing.files[name].num_bytes > _MOST_JSON:
            continue
        try:
            raw = listing.read_json(name, keep=True)
        except AnnotationError:
            if found := _in_lines(listing, name):
                return found
            if not _starts_as_lines(listing, name):
                return UnsupportedLabels(name, "JSON that is damaged", "export it again, or remove it")
            continue
        signatures: Iterable[_Signature] = (_OF_PANOPTIC, *_OF_OBJECT)
        if isinstance(raw, list):
            raw, signatures = next(iter(raw), None), (*_OF_RECORD, *_under_list(_OF_OBJECT))
        if found := _match(name, raw, signatures):
            return found
    return None


def _under_list(signatures: Iterable[_Signature]) -> Iterator[_Signature]:
    for s in signatures:
        if all(path.startswith("[].") for path in s.paths):
            yield s._replace(paths=tuple(path[3:] for path in s.paths))


def find_json_lines(listing: Listing) -> UnsupportedLabels | None:
    """Find JSON lines of another tool."""
    names = [name for suffix in LINE_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
    return next((found for name in sample(listing, names) if (found := _in_lines(listing, name))), None)


def _in_lines(listing: Listing, name: str) -> UnsupportedLabels | None:
    """Recognize a file of JSON lines by its first record."""
    text = next((line for line in head_lines(listing, name) if line.strip()), "")
    try:
        return _match(name, json.loads(text), _OF_RECORD)
    except (ValueError, RecursionError):
        return None


def _starts_as_lines(listing: Listing, name: str) -> bool:
    """Return whether the first line is complete JSON."""
    try:
        json.loads(next((line for line in head_lines(listing, name) if line.strip()), ""))
    except (ValueError, RecursionError):
        return False
    return True


def _match(name: str, raw: Any, signatures: Iterable[_Signature]) -> UnsupportedLabels | None:
    found = (s for s in signatures if all(_reaches(raw, path.split(".")) for path in s.paths))
    return next((UnsupportedLabels(name, s.what, s.fix) for s in found), None)


def _reaches(value: Any, path: Sequence[str]) -> bool:
    for at, step in enumerate(path):
        if step == "[]" and isinstance(value, list):
            value = value[0] if value else None
        elif step == "*" and isinstance(value, dict):
            value = next(iter(value.values()), None)
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            # Keys may hold a dot.
            return isinstance(value, dict) and ".".join(path[at:]) in value
    return True
