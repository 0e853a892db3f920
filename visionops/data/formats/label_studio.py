"""Read Label Studio's own exports, JSON and JSON-MIN: a list of tasks, each with an image and its annotations.

A rectangle is ``x, y, width, height`` in percent of the image and ``rotation`` in degrees, clockwise about the upper
left corner ``x, y``. Rotated rectangles, ellipses and polygons become their bounding box. Exports hold no images, only
the URLs that showed them; the path of a URL is matched from its end, because its folders may be missing here.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from visionops.data.dataset import Dataset, Split
from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples
from visionops.data.formats.beside import report_beside
from visionops.data.formats.label_studio_regions import (
    Drawing,
    Region,
    annotations_of,
    bounds,
    drawing_of_record,
    drawing_of_results,
    sampled_regions,
    text,
)
from visionops.data.formats.names import Bases, Match, plain_name
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import LabelReader
from visionops.data.formats.splits import split_of_file
from visionops.data.formats.urls import find_paths, path_of_url
from visionops.data.layers import BOXES, LABELS
from visionops.data.listing import Listing, folder_of, suffix_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_MOST_SAMPLED = 40
"""Maximum number of JSON files to inspect; more indicate one file per image, which is not this format."""
_SAMPLED_TASKS = 200
_OF_A_RECORD = ("annotation_id", "annotator", "lead_time")
"""Keys that JSON-MIN writes beside the names of the labels."""
_IMAGE_KEYS = ("image", "img", "image_url", "url")
_MISSING = "the file is missing; Label Studio's JSON exports hold no images: put them beside the JSON"


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find JSON files with a list of tasks."""
    del data
    files = _find_files(listing)
    if not files:
        return None
    tasks = [task for file in files for task in listing.read_json(file, keep=True)[:_SAMPLED_TASKS]]
    is_min = all("annotations" not in task and "completions" not in task for task in tasks if isinstance(task, dict))
    regions = [region for task in tasks for region in sampled_regions(task)]
    choices = bool(regions) and all(region.kind == "choices" for region in regions)
    what = f"Label Studio {'JSON-MIN' if is_min else 'JSON'}, {counted(len(files), 'file')}"
    reasons = tuple(f"{file} lists tasks of Label Studio" for file in files[:3])
    return Evidence(Strength.SURE, what, reasons, layer=LABELS if choices else BOXES)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all files. With several files, each file name gives the split (``train.json``).

    With several annotations of a task, the one marked as ground truth counts, else the last. An annotation without
    results is an image without objects; a task without an annotation is left out. If people chose classes of whole
    images and drew nothing, each question is an attribute. Classes are in alphabetical order.

    Raises:
        AnnotationError: There is no such file, or its tasks hold no images.
    """
    del data
    files = _find_files(listing)
    if not files:
        _explain_absence(listing)
    reader = _Reader(listing)
    for file in files:
        reader.add(file, split_of_file(file) if len(files) > 1 else Split.NONE)
    return reader.dataset(name)


def _find_files(listing: Listing) -> list[str]:
    found = listing.by_suffix.get(".json", [])
    if len(found) > _MOST_SAMPLED:
        found = sorted(found, key=lambda name: (-listing.files[name].num_bytes, name))[:_MOST_SAMPLED]
    return sorted(name for name in found if _is_export(listing, name))


def _is_export(listing: Listing, name: str) -> bool:
    try:
        raw = listing.read_json(name, keep=True)
    except AnnotationError:
        return False
    sample = raw[:_SAMPLED_TASKS] if isinstance(raw, list) else []
    return any(map(_is_task, sample))


def _is_task(raw: Any) -> bool:
    """Return whether a value is a task of JSON or a record of JSON-MIN."""
    if not isinstance(raw, dict):
        return False
    if isinstance(raw.get("data"), dict):
        return isinstance(annotations_of(raw), list)
    if not any(isinstance(value, str) and suffix_of(path_of_url(value)) in IMAGE_SUFFIXES for value in raw.values()):
        return False
    regions = (region for value in raw.values() if isinstance(value, list) for region in value)
    return sum(key in raw for key in _OF_A_RECORD) > 1 or any(
        isinstance(region, dict) and "original_width" in region for region in regions
    )


def _explain_absence(listing: Listing) -> None:
    """Raise an error that explains why there is no Label Studio file.

    Raises:
        AnnotationError: Always.
    """
    candidates = listing.by_suffix.get(".json", [])
    if len(candidates) == 1:
        listing.read_json(candidates[0])
    raise AnnotationError(
        f"{listing.root}: no JSON file below it is a list of Label Studio's tasks (JSON files: "
        f"{examples(candidates, 5) or 'none'}); export as JSON or JSON-MIN, or set data.format"
    )


# The name of an image


def _name_of(task: dict[str, Any]) -> str:
    """Return the path of the image; "" if the task names none."""
    is_full = isinstance(task.get("data"), dict)
    data = task["data"] if is_full else task
    keys = [key for key in _IMAGE_KEYS if key in data]
    keys += sorted(key for key in data if key not in keys and (is_full or key != "file_upload"))
    paths = [path_of_url(data[key]) for key in keys if isinstance(data[key], str)]
    upload = task.get("file_upload")
    if isinstance(upload, str):
        paths.append(upload)
    return next((path for path in paths if suffix_of(path) in IMAGE_SUFFIXES), "")


def _bases(file: str) -> Bases:
    folder = folder_of(file)
    here = f"{folder}/" if folder else ""
    above = f"{folder_of(folder)}/" if folder_of(folder) else ""
    usual = dict.fromkeys(f"{start}{images}" for start in (here, above, "") for images in ("images/", "data/", ""))
    return ((here,), tuple(usual))


# Reading


@dataclasses.dataclass
class _Image:
    """A task with an annotation."""

    path: str
    where: str
    split: Split
    drawing: Drawing


class _Reader:
    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.assembly = Assembly(listing)
        self.assembly.missing = _MISSING
        self.images: list[tuple[_Image, Bases]] = []
        self.counts: Counter[str] = Counter()
        self.nameless: list[str] = []
        self.malformed: list[str] = []

    def add(self, file: str, split: Split) -> None:
        bases = _bases(file)
        shown = text(file)
        waiting: list[str] = []
        for where, task, drawings in self._tasks(self.listing.read_json(file), shown):
            path = _name_of(task)
            if task.get("predictions"):
                self.counts["predicted"] += 1
            if not path:
                self.nameless.append(where)
            elif not drawings:
                waiting.append(path)
            else:
                self.counts["several"] += len(drawings) > 1
                self.images.append((_Image(path, where, split, self._chosen(drawings, where)), bases))
        self.counts["waiting"] += len(waiting)
        plain = [name for name in map(plain_name, waiting) if name is not None]
        found = find_paths(self.assembly.index, plain, bases)
        self.assembly.claimed.update(match.file for match in found.values() if match.file)

    def _tasks(self, raw: list[Any], place: str) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
        """Yield each task with its place and annotations; the records of a task in JSON-MIN are one task."""
        records: dict[Any, list[dict[str, Any]]] = {}
        for number, task in enumerate(raw, start=1):
            if not isinstance(task, dict):
                self.malformed.append(f"{place}: task #{number}")
                continue
            own = task.get("id")
            where = f"{place}: task {own}" if type(own) is int else f"{place}: task #{number}"
            if isinstance(task.get("data"), dict):
                yield where, task, self._annotations(task, where)
            else:
                records.setdefault((type(own) is int, own if type(own) is int else number), []).append(task)
        for (has_id, own), group in records.items():
            where = f"{place}: task {own}" if has_id else f"{place}: task #{own}"
            drawn = [record for record in group if self._is_annotated(record)]
            yield where, group[0], drawn

    def _is_annotated(self, record: dict[str, Any]) -> bool:
        return any(record.get(key) is not None for key in _OF_A_RECORD) or bool(drawing_of_record(record, "").regions)

    def _annotations(self, task: dict[str, Any], where: str) -> list[dict[str, Any]]:
        annotations = annotations_of(task)
        found = []
        for annotation in annotations if isinstance(annotations, list) else [annotations]:
            if annotation is None:
                continue
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                self.malformed.append(where)
            elif annotation.get("was_cancelled") or annotation.get("skipped"):
                self.counts["cancelled"] += 1
            else:
                found.append(annotation)
        return found

    def _chosen(self, annotations: list[dict[str, Any]], where: str) -> Drawing:
        """Return the annotation that is marked as ground truth, else the last one."""
        marked = [a for a in annotations if a.get("ground_truth") or a.get("honeypot")]
        last = max(marked or annotations, key=_age)
        if isinstance(last.get("result"), list):
            return drawing_of_results(last["result"], where)
        return drawing_of_record(last, where)

    def dataset(self, name: str) -> Dataset:
        if not self.images and self.nameless:
            raise AnnotationError(
                f"{self.nameless[0]}: no task names an image (JPEG, PNG and such); export a project of images"
            )
        self._report_tasks()
        rows = self._add_images()
        regions = [region for image, _ in self.images for region in image.drawing.regions]
        is_choices = bool(regions) and all(region.kind == "choices" for region in regions)
        return self._classification(name, rows) if is_choices else self._detection(name, rows)

    def _report_tasks(self) -> None:
        notes, counts = self.assembly.notes, self.counts
        if counts["waiting"]:
            notes.append(f"{counted(counts['waiting'], 'task')} without an annotation left out: not labelled yet.")
        if counts["several"]:
            what = "the one marked as ground truth is read, or else the last"
            notes.append(f"{counted(counts['several'], 'task')} with several annotations: {what}.")
        if counts["cancelled"]:
            notes.append(f"{counted(counts['cancelled'], 'annotation')} left out: skipped by the annotator.")
        if counts["predicted"]:
            notes.append(
                f"Predictions of {counted(counts['predicted'], 'task')} are not read: they are not drawn by people."
            )
        for code, places, what in (
            (Code.UNKNOWN_IMAGE, self.nameless, "has no image; left out; correct its data or remove the task"),
            (Code.BAD_BOX, self.malformed, "is malformed; left out; export the annotations again"),
        ):
            if places:
                also = f" ({counted(len(places), 'task')}: {examples(places)})" if places[1:] else ""
                self.assembly.found(code, places[0], f"{what}{also}")

    def _add_images(self) -> list[int]:
        """Return the row of each image, or `DROPPED`."""
        assembly = self.assembly
        plain = [plain_name(image.path) for image, _ in self.images]
        found: dict[tuple[str, Any], Match] = {}
        for bases in dict.fromkeys(bases for _, bases in self.images):
            names = [p for p, (_, b) in zip(plain, self.images, strict=True) if p is not None and b == bases]
            found |= {(n, bases): match for n, match in find_paths(assembly.index, names, bases).items()}
        rows = []
        for name, (image, bases) in zip(plain, self.images, strict=True):
            entry = ImageEntry(text(image.path), image.where, image.split, *image.drawing.size)
            if name is None:
                message = f"file name {entry.name!r} is not a plain path inside the data set; correct it"
                assembly.found(Code.UNSAFE_NAME, image.where, message)
                rows.append(DROPPED)
                continue
            match = found[name, bases]
            shown = name.rpartition("/")[2] if "upload/" in name else name
            rows.append(assembly.add_match(entry, shown, match))
        return rows

    def _detection(self, name: str, rows: list[int]) -> Dataset:
        boxes = _Boxes(self.assembly)
        for row, (image, _) in zip(rows, self.images, strict=True):
            if row != DROPPED:
                boxes.add(row, image.drawing)
        return self.assembly.dataset(name, sort_classes=True, leave_out=boxes.report())

    def _classification(self, name: str, rows: list[int]) -> Dataset:
        assembly = self.assembly
        answers: dict[str, dict[int, str]] = {}
        for row, (image, _) in zip(rows, self.images, strict=True):
            if row == DROPPED:
                continue
            for region in image.drawing.regions:
                chosen = answers.setdefault(region.question, {})
                if len(region.labels) != 1 or chosen.get(row, region.labels[0]) != region.labels[0]:
                    message = f"has several choices for {region.question}; not read; keep one"
                    assembly.found(Code.CONFLICTING_LABEL, region.where, message, (assembly.keys[row],))
                    chosen.setdefault(row, "")
                else:
                    chosen[row] = region.labels[0]
        readers = {
            question: LabelReader.by_values(question, answers[question].values()) for question in sorted(answers)
        }
        report_beside(self.listing, assembly.claimed, assembly.findings)
        keys, files = assembly.keys, self.listing.files
        class_ids = {
            q: [reader.class_id(answers[q].get(row, "")) for row in range(len(keys))] for q, reader in readers.items()
        }
        known = [any(ids[row] >= 0 for ids in class_ids.values()) for row in range(len(keys))]
        if silent := known.count(False):
            assembly.notes.append(f"{counted(silent, 'image')} without any known label: for batch inference.")
        split_of = {row: image.split for row, (image, _) in zip(rows, self.images, strict=True)}
        columns = {
            "key": keys,
            "path": [str(self.listing.path(key)) if key in files else "" for key in keys],
            "num_bytes": [files[key].num_bytes if key in files else -1 for key in keys],
            "split": [(split_of[row] if known[row] else Split.UNLABELLED).value for row in range(len(keys))],
        }
        notes = [*assembly.notes, *assembly.loose_notes()]
        labels = {q: [i if i >= 0 else None for i in ids] for q, ids in class_ids.items()}
        attributes = [reader.attribute for reader in readers.values()]
        return Dataset.from_columns(
            name, (), columns, {}, notes, assembly.findings, attributes=attributes, labels=labels
        )


class _Boxes:
    """Adds regions as boxes, and counts those that are converted or not read."""

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.bounded: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        self.several = self.sizeless = 0
        self.turned: dict[int, None] = {}
        self.boxed: set[int] = set()
        self.boxless: dict[int, None] = {}
        """Rows of images with a shape without a box."""

    def add(self, row: int, drawing: Drawing) -> None:
        self.assembly.size_of(row)
        self.said.update(drawing.other)
        if drawing.turned:
            self.turned[row] = None
        for region in drawing.regions:
            if region.kind == "choices":
                self.said[region.kind] += bool(region.value)  # a record also has its imported columns
            elif region.kind not in ("rectangle", "polygon", "ellipse"):
                self.lost[region.kind] += 1
                self.boxless[row] = None
            else:
                self.boxed.add(row)
                self._add_region(row, region)

    def _add_region(self, row: int, region: Region) -> None:
        if not region.labels:
            message = f"the {region.kind} has no label; set one or remove it"
            self.assembly.found(Code.UNKNOWN_CATEGORY, region.where, message, (self.assembly.keys[row],))
            return
        size = self.assembly.size_of(row)
        if not all(size):
            self.sizeless += 1
            return
        self.several += len(region.labels) > 1
        box, is_box = bounds(region, *size)
        if not is_box:
            self.bounded["rotated rectangle" if region.kind == "rectangle" else region.kind] += 1
        for label in region.labels:
            self.assembly.add_box(row, label, box, region.where)

    def report(self) -> set[int]:
        """Add notes and findings; return the rows of images to leave out."""
        assembly = self.assembly
        notes = [f"{counted(count, kind)} read as the box around it." for kind, count in sorted(self.bounded.items())]
        if self.lost:
            notes.append(f"Shapes that are not boxes, left out: {_tally(self.lost)}.")
        if self.said.total():
            notes.append(f"Answers without a shape, left out: {_tally(self.said)}.")
        if self.several:
            notes.append(f"{counted(self.several, 'region')} with several labels: a box for each label.")
        if self.sizeless:
            what = "they are in percent of an image whose size is not known"
            notes.append(f"{counted(self.sizeless, 'region')} left out: {what}.")
        assembly.notes += notes
        if self.turned:
            keys = tuple(assembly.keys[row] for row in self.turned)
            message = (
                f"turned in Label Studio when drawn on (image_rotation): {examples(keys)}; check the boxes, or turn "
                "the files and label them again"
            )
            assembly.found(Code.SUSPECT_COORDINATES, counted(len(keys), "image"), message, keys)
        hidden = [row for row in self.boxless if row not in self.boxed]
        if hidden:
            keys = tuple(assembly.keys[row] for row in hidden)
            message = (
                f"only shapes that give no boxes ({', '.join(sorted(self.lost))}), left out, as they would count as "
                f"background: {examples(keys, 12)}; draw rectangles or polygons"
            )
            assembly.found(Code.CROWD_ONLY, counted(len(keys), "image"), message, keys)
        return set(hidden)


def _tally(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {kind}" for kind, count in sorted(counts.items()) if count)


def _age(annotation: dict[str, Any]) -> tuple[str, int]:
    """Return when an annotation was changed, as ISO text, and its number."""
    changed = annotation.get("updated_at") or annotation.get("created_at")
    number = annotation.get("id") if "result" in annotation else annotation.get("annotation_id")
    return changed if isinstance(changed, str) else "", number if type(number) is int else -1
