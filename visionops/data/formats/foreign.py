"""Exports of tools that no reader reads: what each is, and what to export from the tool in its place.

They are looked for where nothing better fits than class folders or an attribute table, so that labels that cannot be
read never pass for a data set without them. Files are known by their content: the keys of JSON, the shape of lines.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import counted
from visionops.data.formats.beside import find_masks
from visionops.data.formats.cells import head_rows
from visionops.data.formats.mask_names import is_kind_of_images
from visionops.data.formats.rules import list_names
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.errors import AnnotationError

__all__ = ["Foreign", "find_foreign"]

_SAMPLED = 12
"""Files of a kind that are looked into: some of the largest, and some of all."""
_LINES = 20
_HEAD_BYTES = 1 << 18
_MOST_JSON = 1 << 28
_LINE_SUFFIXES = (".jsonl", ".ndjson", ".manifest", ".jsonlines")
_TAIL_OF_LABELS = (".json", ".xml", ".txt", ".csv")
_SPREADSHEETS = (".xls", ".xlsb", ".ods", ".numbers")
_COCO_OR_YOLO = "export as COCO or YOLO"
_FIFTYONE = "export as COCODetectionDataset, or classes as ImageClassificationDirectoryTree"


class Foreign(NamedTuple):
    """Labels that no reader reads."""

    file: str
    what: str
    """What they are, for people: "a manifest of SageMaker Ground Truth"."""
    mend: str
    """What to do, as the end of a message."""


def find_foreign(listing: Listing, *, masks: bool = True) -> Foreign | None:
    """Find labels of another tool; None where nothing looks like any.

    Args:
        masks: Whether masks of the images are such labels, too; not where the images have classes.
    """
    finders = [_find_json, _find_json_lines, _find_tables, _find_records, _find_texts, _find_unknown, _find_mentions]
    finders += [_find_masks, _find_kinds, _find_lists] if masks else []
    return next((found for find in finders if (found := find(listing))), None)


# JSON


class _Signature(NamedTuple):
    what: str
    mend: str
    paths: tuple[str, ...]
    """Keys that are all there; ``a.b`` goes down, ``[]`` to the first of a list, ``*`` to the first value."""


_OF_OBJECT = (
    _Signature("Supervisely JSON", _COCO_OR_YOLO, ("objects", "size.height", "tags")),
    _Signature("the classes of a Supervisely project", _COCO_OR_YOLO, ("classes.[].title", "classes.[].shape")),
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
    _Signature("Create ML JSON", _COCO_OR_YOLO, ("image", "annotations")),
    _Signature("Create ML JSON", _COCO_OR_YOLO, ("imagefilename", "annotation")),
    _Signature("Scalabel (BDD100K) JSON", "convert to COCO with scalabel", ("name", "labels.[].category")),
    _Signature("Encord JSON", "export as COCO", ("label_hash", "data_units")),
    _Signature("Kili JSON", "export as COCO or YOLO", ("externalId", "labels")),
    _Signature("Sloth JSON", _COCO_OR_YOLO, ("class", "filename", "annotations")),
    _Signature("a list of COCO results (predictions)", "use the annotations", ("image_id", "category_id")),
    _Signature("Ultralytics NDJSON", "export the data set as YOLO", ("type", "class_names")),
    _Signature("Azure ML JSON lines", "export as COCO", ("image_url", "label")),
    _Signature("JSON lines of Vertex AI", _COCO_OR_YOLO, ("imageGcsUri",)),
    _Signature("JSON lines for a language model", _COCO_OR_YOLO, ("image", "prefix", "suffix")),
    _Signature("JSON lines for a language model", _COCO_OR_YOLO, ("messages.[].role",)),
)
_OF_PANOPTIC = _Signature("COCO panoptic", "use the files instances_*.json", ("annotations.[].segments_info",))


def _find_json(listing: Listing) -> Foreign | None:
    for name in _sample(listing, listing.by_suffix.get(".json", ())):
        if listing.files[name].num_bytes > _MOST_JSON:
            continue
        try:
            raw = listing.read_json(name, keep=True)
        except AnnotationError:
            if found := _in_lines(listing, name):
                return found
            if not _starts_as_lines(listing, name):
                return Foreign(name, "JSON that is damaged", "export it again, or remove it")
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


def _find_json_lines(listing: Listing) -> Foreign | None:
    names = [name for suffix in _LINE_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
    return next((found for name in _sample(listing, names) if (found := _in_lines(listing, name))), None)


def _in_lines(listing: Listing, name: str) -> Foreign | None:
    """Judge a file of JSON lines by its first record."""
    text = next((line for line in _head(listing, name) if line.strip()), "")
    try:
        return _match(name, json.loads(text), _OF_RECORD)
    except (ValueError, RecursionError):
        return None


def _starts_as_lines(listing: Listing, name: str) -> bool:
    """Whether the first line is JSON of its own."""
    try:
        json.loads(next((line for line in _head(listing, name) if line.strip()), ""))
    except (ValueError, RecursionError):
        return False
    return True


def _match(name: str, raw: Any, signatures: Iterable[_Signature]) -> Foreign | None:
    found = (s for s in signatures if all(_reaches(raw, path.split(".")) for path in s.paths))
    return next((Foreign(name, s.what, s.mend) for s in found), None)


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


# Tables, records, texts


def _find_tables(listing: Listing) -> Foreign | None:
    for name in _sample(listing, listing.by_suffix.get(".csv", ())):
        rows = head_rows(listing.path(name), ",")
        header = set(rows[0][1]) if rows else set()
        if {"Labeled Data", "Label"} <= header:
            return Foreign(name, "a CSV of Labelbox", "convert it to COCO")
        if {"annotation_id", "annotator", "lead_time"} <= header:
            return Foreign(name, "a CSV of Label Studio", "export as JSON, COCO or YOLO")
        what = _shapes_in([cells for _, cells in rows])
        if what:
            return Foreign(name, f"a table of {what}", "convert it to COCO, or to a row a box")
    for suffix in _SPREADSHEETS:
        if names := listing.by_suffix.get(suffix):
            return Foreign(names[0], f"a spreadsheet of the kind {suffix}", "save it as .xlsx or CSV")
    for name in _sample(listing, listing.by_suffix.get(".parquet", ())):
        if _holds_images(listing, name):
            return Foreign(name, "Parquet that holds the images themselves", "write them out as files with metadata")
    return None


_SHAPE_COLUMNS = (
    (frozenset({"encodedpixels", "encodedpixel", "rle", "rlemask", "maskrle", "encodedmask"}), "run-length masks"),
    (frozenset({"polygon", "polygons", "segmentation", "vertices", "contour", "contours", "points"}), "polygons"),
    (frozenset({"predictionstring"}), "predictions of Kaggle, all boxes of an image in one cell"),
)
"""Columns, in lower case, letters and digits only, to what a table that has one of them holds."""


def _shapes_in(rows: Sequence[Sequence[str]]) -> str:
    """What a table says of places in the images, but boxes; empty where it says nothing."""
    names = {re.sub("[^a-z0-9]", "", cell.casefold()) for cell in rows[0]} if rows else set()
    for known, what in _SHAPE_COLUMNS:
        if not known.isdisjoint(names):
            return what
    if {"x", "y"} <= names:
        return "points"
    if rows and all(len(row) == 6 and _is_image(row[3]) and _numbers([*row[1:3], *row[4:]]) for row in rows):
        return "points of makesense.ai"
    if rows and all(len(row) == 2 and _is_image(row[0]) and re.fullmatch(r"\[.*\]", row[1]) for row in rows):
        return "lists of classes of whole images, as makesense.ai writes them"
    return ""


def _holds_images(listing: Listing, name: str) -> bool:
    try:
        schema = pq.read_schema(listing.path(name))
    except (pa.ArrowException, OSError, ValueError):
        return False
    kinds = [field.type for field in schema]
    structs = [kind for kind in kinds if pa.types.is_struct(kind)]
    inner = [kind.field(i).type for kind in structs for i in range(kind.num_fields)]
    return any(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) for kind in (*kinds, *inner))


_RECORDS = (
    (re.compile(r"\.tfrec(?:ord)?s?(?:$|[-_.])|\.record$", re.IGNORECASE), "TFRecord"),
    (re.compile(r"\.rec$", re.IGNORECASE), "RecordIO of MXNet"),
    (re.compile(r"\.(?:json|jsonl|ndjson|xml|csv|tsv|txt|manifest)\.(?:gz|bz2|xz|zst)$", re.IGNORECASE), ""),
    (re.compile(r"\.mdb$", re.IGNORECASE), "LMDB"),
)
"""Files that hold images and labels together."""


def _find_records(listing: Listing) -> Foreign | None:
    for pattern, what in _RECORDS:
        name = next((name for name in listing.files if pattern.search(name.rpartition("/")[2])), None)
        if name and not what:
            return Foreign(name, "a packed file, perhaps of labels", "unpack it")
        if name:
            return Foreign(name, f"{what} (images and labels in one file)", _COCO_OR_YOLO)
    return None


def _numbers(parts: Sequence[str]) -> bool:
    try:
        return bool(parts) and not any(math.isnan(float(part)) for part in parts)
    except ValueError:
        return False


def _is_kitti(lines: Sequence[str]) -> bool:
    rows = [line.split() for line in lines]
    return all(len(row) in (15, 16) and not _numbers(row[:1]) and _numbers(row[1:]) for row in rows)


def _is_label_tool(lines: Sequence[str]) -> bool:
    """A count, and then that many boxes with a class."""
    count, *boxes = [line.split() for line in lines]
    is_count = len(count) == 1 and count[0].isdigit() and boxes != []
    return is_count and all(len(box) == 5 and _numbers(box[:4]) and not _numbers(box[4:]) for box in boxes)


def _is_pixels(lines: Sequence[str]) -> bool:
    """The corners of boxes in pixels, and the number of a class."""
    rows = [re.split(r"[\s,]+", line.strip()) for line in lines]
    if not all(len(row) == 5 and _numbers(row) for row in rows):
        return False
    boxes = [[float(cell) for cell in row] for row in rows]
    return all(1 < x2 > x1 >= 0 and 1 < y2 > y1 >= 0 and number % 1 == 0 for x1, y1, x2, y2, number in boxes)


def _is_named(lines: Sequence[str]) -> bool:
    """The name of a class, perhaps a confidence, and four numbers: OIDv4, evaluation tools, YOLO with names."""
    rows = [line.split() for line in lines]
    return all(len(row) >= 5 and _numbers(row[-4:]) and not _numbers(row[:1]) for row in rows)


def _is_visdrone(lines: Sequence[str]) -> bool:
    rows = [line.rstrip(",").split(",") for line in lines]
    return all(len(row) == 8 and _numbers(row) for row in rows)


def _is_mot(lines: Sequence[str]) -> bool:
    rows = [line.split(",") for line in lines]
    return all(len(row) in (7, 9, 10) and _numbers(row) for row in rows)


def _is_icdar(lines: Sequence[str]) -> bool:
    rows = [line.split(",") for line in lines]
    return all(len(row) >= 9 and _numbers(row[:8]) for row in rows) and not all(_numbers(row) for row in rows)


def _is_wider(lines: Sequence[str]) -> bool:
    """The path of an image, a count, and then that many boxes."""
    if len(lines) < 3 or not _is_image(lines[0]) or not lines[1].strip().isdigit():
        return False
    box = lines[2].split()
    return len(box) >= 4 and _numbers(box)


def _is_keras_yolo(lines: Sequence[str]) -> bool:
    """``a.jpg x1,y1,x2,y2,class x1,y1,x2,y2,class``."""
    rows = [re.split(r"\s+(?=\d+(?:,\d+){4}(?:\s|$))", line.strip()) for line in lines]
    return any(len(row) > 1 for row in rows) and all(_is_image(row[0]) for row in rows)


def _is_image(text: str) -> bool:
    return suffix_of(text.strip().replace("\\", "/")) in IMAGE_SUFFIXES


_TEXTS: tuple[tuple[Callable[[Sequence[str]], bool], str, str], ...] = (
    (_is_kitti, "a label file of KITTI", _COCO_OR_YOLO),
    (_is_label_tool, "a label file of BBox-Label-Tool", _COCO_OR_YOLO),
    (_is_visdrone, "a label file of VisDrone", "convert them to YOLO"),
    (_is_mot, "a MOT file of tracks (boxes of video frames)", "convert it to COCO"),
    (_is_icdar, "a label file of ICDAR (text in images)", "convert it to COCO"),
    (_is_wider, "WIDER FACE's list of boxes", "convert it to COCO"),
    (_is_keras_yolo, "a list of boxes of keras-yolo3", "export as COCO or YOLO"),
)


def _find_texts(listing: Listing) -> Foreign | None:
    stems = [stem_of(name).rpartition("/")[2] for name in listing.images]
    for name in _sample(listing, listing.by_suffix.get(".txt", ())):
        lines = [line for line in _head(listing, name) if line.strip()]
        for test, what, mend in _TEXTS if lines else ():
            if test(lines):
                return Foreign(name, what, mend)
        own = stem_of(name).rpartition("/")[2]
        if not lines or not any(stem.startswith(own) for stem in stems):
            continue
        if _is_pixels(lines):
            return Foreign(name, "a label file of corners in pixels, as DeepPCB has it", "convert them to YOLO")
        if _is_named(lines):
            return Foreign(name, "a label file of class names and boxes", "convert it to YOLO, with classes as numbers")
    return None


# What no rule above knows


def _find_unknown(listing: Listing) -> Foreign | None:
    """A file of its own for most of the images says something of them, whatever it is."""
    images = {stem_of(name).rpartition("/")[2]: name for name in listing.images}
    for suffix in _TAIL_OF_LABELS:
        own: dict[str, str] = {}
        for name in listing.by_suffix.get(suffix, ()):
            stem = stem_of(name).rpartition("/")[2]
            own.setdefault(stem_of(stem) if suffix_of(stem) in IMAGE_SUFFIXES else stem, name)
        shared = [stem for stem in own if stem in images]
        if shared and 2 * len(shared) >= len(images):
            what = f"one of {counted(len(shared), 'file')} with the names of images, in a format that is not known"
            return Foreign(own[shared[0]], what, "export the labels as COCO, YOLO or Pascal VOC")
    return None


_REGIONS = re.compile(
    r"bbox|bound|box(?:es)?\b|polygon|segmentation|points|coords|coordinates|rectangle|\bxmin|\bx1\b|annotations|objects",
    re.IGNORECASE,
)
"""What only files about places in images say."""
_QUOTED = re.compile(r"[\"']([^\"'<>\r\n]{1,300})(?=[\"'])")
_TEXT_SUFFIXES = (".json", *_LINE_SUFFIXES, ".xml", ".txt")


def _find_mentions(listing: Listing) -> Foreign | None:
    """A text that names images and speaks of places in them, or a Parquet file with such columns."""
    tails = {name.rpartition("/")[2] for name in listing.images}
    for name in _sample(listing, [name for suffix in _TEXT_SUFFIXES for name in listing.by_suffix.get(suffix, ())]):
        text = "\n".join(_head(listing, name, _HEAD_BYTES))
        if not text.lstrip().startswith(("{", "[", "<")):
            continue  # written for people
        words = (re.split(r"[/\\]", word)[-1] for word in _QUOTED.findall(text))
        named = [unquote(word) for word in words if suffix_of(word) in IMAGE_SUFFIXES]
        if named and _REGIONS.search(text) and 2 * sum(word in tails for word in named) >= len(named):
            what = "a file of boxes or shapes, by the images it names, in a format that is not known"
            return Foreign(name, what, "export the labels as COCO, YOLO or Pascal VOC")
    for name in _sample(listing, listing.by_suffix.get(".parquet", ())):
        if any(map(_REGIONS.search, _columns(listing, name))):
            return Foreign(name, "Parquet with columns of boxes or shapes that are not known", "write a row a box")
    return None


def _columns(listing: Listing, name: str) -> list[str]:
    try:
        return list(pq.read_schema(listing.path(name)).names)
    except (pa.ArrowException, OSError, ValueError):
        return []


def _find_lists(listing: Listing) -> Foreign | None:
    """A list of images and classes that is no table."""
    tails = {name.rpartition("/")[2] for name in listing.images}
    for name in _sample(listing, listing.by_suffix.get(".txt", ())):
        rows = [line.split() for line in _head(listing, name) if line.strip()]
        if rows and all(len(row) > 1 and row[0].rpartition("/")[2] in tails for row in rows):
            return Foreign(name, "a list of images and what they are", "save it as CSV with a header image,class")
    for name in _sample(listing, listing.by_suffix.get(".json", ())):
        try:
            raw = listing.read_json(name, keep=True)
        except AnnotationError:
            continue
        if isinstance(raw, dict) and raw and all(key.rpartition("/")[2] in tails for key in raw):
            return Foreign(name, "JSON by the names of images", "save it as CSV with a header image,class")
    return None


def _find_masks(listing: Listing) -> Foreign | None:
    """Pixel labels of half of the photographs or more."""
    masks = find_masks(listing)
    if not masks or 2 * len(set(masks.values())) < len(listing.images) - len(masks):
        return None
    what = f"one of {counted(len(masks), 'mask')} that label pixels"
    return Foreign(next(iter(masks)), what, "export boxes, as COCO or YOLO")


def _find_kinds(listing: Listing) -> Foreign | None:
    """A folder of images that is called after what it holds, beside others: probably photographs and masks."""
    beside: dict[str, set[str]] = {}
    for folder in {folder_of(name) for name in listing.images}:
        parts = folder.split("/") if folder else []
        for at, part in enumerate(parts):
            beside.setdefault("/".join(parts[:at]), set()).add(part)
    for above, names in sorted(beside.items()):
        kinds = sorted(filter(is_kind_of_images, names))
        if kinds and len(names) > 1:
            place = f"{above}/{kinds[0]}".removeprefix("/")
            what = f"one of {len(names)} folders of images ({list_names(sorted(names))}), called after what it holds"
            return Foreign(place, what, "add labels, or set data.format: folders if they are classes")
    return None


def _sample(listing: Listing, names: Sequence[str]) -> list[str]:
    largest = sorted(names, key=lambda name: (-listing.files[name].num_bytes, name))[:_SAMPLED]
    return list(dict.fromkeys([*names[:: max(1, len(names) // _SAMPLED)][:_SAMPLED], *largest]))


def _head(listing: Listing, name: str, most: int = _LINES) -> list[str]:
    """The first lines of a text, at most 256 KiB; none where it is no text."""
    try:
        with listing.path(name).open("rb") as stream:
            data = stream.read(_HEAD_BYTES)
        text = data.decode("utf-8-sig", errors="strict" if len(data) < _HEAD_BYTES else "ignore")
    except (OSError, ValueError):
        return []
    lines = text.split("\n")
    return [line.rstrip("\r") for line in lines[: -1 if len(data) == _HEAD_BYTES and len(lines) > 1 else None][:most]]
