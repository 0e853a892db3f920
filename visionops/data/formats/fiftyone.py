"""Read FiftyOne's image detection and image classification datasets: ``labels.json`` beside ``data/``.

``labels`` maps the path of an image below ``data/``, without suffix, to its labels: a list of ``{"label",
"bounding_box": [x, y, width, height]}`` in fractions of the image, or one class. With ``classes``, a label is an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, fold_name
from visionops.data.formats.beside import report_beside
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import LabelReader
from visionops.data.formats.shapes import printable
from visionops.data.formats.splits import split_of_folders
from visionops.data.layers import BOXES, LABELS, Attribute
from visionops.data.listing import Listing, folder_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_FILE = "labels.json"
_IMAGES = "data/"
_QUESTION = "label"
_MOST_SAMPLED = 200


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find ``labels.json`` files with labels by image."""
    del data
    files = _find_files(listing)
    if not files:
        return None
    classes = not _holds_boxes(listing, files)
    what = f"FiftyOne image {'classification' if classes else 'detection'} dataset, {counted(len(files), 'file')}"
    reasons = tuple(f"{file} has labels by image" for file in files[:3])
    return Evidence(Strength.SURE, what, reasons, layer=LABELS if classes else BOXES)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all files; with several files, the folder of each gives its split.

    Images without labels are for batch inference. Classes are in the order of ``classes``, else in alphabetical order.

    Raises:
        AnnotationError: There is no such file.
    """
    del data
    files = _find_files(listing)
    if not files:
        raise AnnotationError(f"{listing.root}: no labels.json with labels by image below it; set data.format to auto")
    has_boxes = _holds_boxes(listing, files)
    assembly = Assembly(listing)
    found = [label for file in files for label in _labels(listing, file)]
    labelled = [label for label in found if label.target is not None]
    assembly.reserve([label.name for label in labelled])
    entries = [ImageEntry(label.name, label.where, label.split) for label in labelled]
    rows = assembly.add_images(entries)
    for label in found:
        if label.target is None:
            assembly.claim(label.name)
    if len(labelled) < len(found):
        assembly.notes.append(f"{counted(len(found) - len(labelled), 'image')} without labels left out.")
    if has_boxes:
        return _detection(assembly, labelled, rows, name)
    return _classification(assembly, labelled, rows, name)


class _Label(NamedTuple):
    name: str
    """Name of the image, relative to the root; without a suffix if there is no file."""
    where: str
    split: Split
    target: Any
    classes: tuple[str, ...]


def _find_files(listing: Listing) -> list[str]:
    found = [name for name in listing.by_suffix.get(".json", ()) if name.rpartition("/")[2] == _FILE]
    return sorted(name for name in found[:_MOST_SAMPLED] if _is_ours(listing, name))


def _is_ours(listing: Listing, name: str) -> bool:
    try:
        raw = listing.read_json(name, keep=True)
    except AnnotationError:
        return False
    if not isinstance(raw, dict) or not isinstance(raw.get("labels"), dict) or set(raw) - {"classes", "labels"}:
        return False
    targets = [target for target in list(raw["labels"].values())[:_MOST_SAMPLED] if target is not None]
    return bool(targets) and all(_is_boxes(target) or _is_class(target) for target in targets)


def _is_boxes(target: Any) -> bool:
    return isinstance(target, list) and all(isinstance(one, dict) and "bounding_box" in one for one in target)


def _is_class(target: Any) -> bool:
    value = target.get("label") if isinstance(target, dict) else target
    return isinstance(value, str | int) and not isinstance(value, bool)


def _holds_boxes(listing: Listing, files: list[str]) -> bool:
    return any(isinstance(target, list) for file in files for target in _content(listing, file)["labels"].values())


def _content(listing: Listing, file: str) -> dict[str, Any]:
    return dict(listing.read_json(file, keep=True))


def _labels(listing: Listing, file: str) -> Iterator[_Label]:
    raw, folder = _content(listing, file), folder_of(file)
    start = f"{folder}/{_IMAGES}" if folder else _IMAGES
    by_stem = {image.rpartition(".")[0]: image for image in listing.images if image.startswith(start)}
    declared = raw.get("classes")
    classes = tuple(map(str, declared)) if isinstance(declared, list) else ()
    for key, target in raw["labels"].items():
        stem = f"{start}{key}"
        where = f"{printable(file)}: {printable(str(key))}"
        yield _Label(by_stem.get(stem, stem), where, split_of_folders(file), target, classes)


def _class_of(value: Any, classes: tuple[str, ...]) -> str:
    """Return the name of a class; "" if it is not a class."""
    if isinstance(value, str):
        return printable(value)
    if type(value) is int and 0 <= value < len(classes):
        return printable(classes[value])
    return ""


def _detection(assembly: Assembly, labels: list[_Label], rows: list[int], name: str) -> Dataset:
    declared = list(dict.fromkeys(map(printable, (one for label in labels for one in label.classes))))
    for each in declared:
        assembly.classes.id_of(each)
    for label, row in zip(labels, rows, strict=True):
        if row == DROPPED:
            continue
        if not _is_boxes(label.target):
            assembly.found(Code.BAD_BOX, label.where, "is not a list of boxes; left out", (assembly.keys[row],))
            continue
        width, height = assembly.size_of(row)
        for number, one in enumerate(label.target):
            where = f"{label.where}: box {number}"
            box = _corners(one["bounding_box"], width, height)
            class_name = _class_of(one.get("label"), label.classes)
            if box is None:
                assembly.found(Code.BAD_BOX, where, "expected x, y, width and height; redraw it", (assembly.keys[row],))
            elif not class_name:
                assembly.found(
                    Code.UNKNOWN_CATEGORY, where, "has no class that the file declares; set one", (assembly.keys[row],)
                )
            else:
                assembly.add_box(row, class_name, box, where)
    return assembly.dataset(name, sort_classes=not declared)


def _corners(box: Any, width: int, height: int) -> list[float] | None:
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in {int, float} for value in box):
        return None
    x, y, w, h = map(float, box)
    return [x * width, y * height, (x + w) * width, (y + h) * height]


def _classification(assembly: Assembly, labels: list[_Label], rows: list[int], name: str) -> Dataset:
    answers: dict[int, str] = {}
    for label, row in zip(labels, rows, strict=True):
        if row != DROPPED:
            value = label.target.get("label") if isinstance(label.target, Mapping) else label.target
            answers[row] = _class_of(value, label.classes)
    attribute, id_of = _attribute(labels, answers)
    report_beside(assembly.listing, assembly.claimed, assembly.findings)
    keys, files = assembly.keys, assembly.listing.files
    class_ids = [id_of(answers.get(row, "")) for row in range(len(keys))]
    split_of = {row: label.split for row, label in zip(rows, labels, strict=True)}
    columns = {
        "key": keys,
        "path": [str(assembly.listing.path(key)) if key in files else "" for key in keys],
        "num_bytes": [files[key].num_bytes if key in files else -1 for key in keys],
        "split": [(split_of[row] if class_ids[row] >= 0 else Split.UNLABELLED).value for row in range(len(keys))],
    }
    notes = [*assembly.notes, *assembly.loose_notes()]
    known = {_QUESTION: [i if i >= 0 else None for i in class_ids]}
    return Dataset.from_columns(name, (), columns, {}, notes, assembly.findings, attributes=[attribute], labels=known)


def _attribute(labels: list[_Label], answers: Mapping[int, str]) -> tuple[Attribute, Callable[[str], int]]:
    """Return the attribute with its classes, and a function that returns the id of a class, negative for none."""
    declared = tuple(dict.fromkeys(printable(one) for label in labels for one in label.classes))
    if not declared or len({fold_name(one) for one in declared}) < len(declared):
        reader = LabelReader.by_values(_QUESTION, answers.values())
        return reader.attribute, reader.class_id
    ids = {one: number for number, one in enumerate(declared)}
    return Attribute(_QUESTION, declared), lambda class_name: ids.get(class_name, -1)
