"""Read Hugging Face ``imagefolder``: ``metadata.jsonl``, ``.csv`` or ``.parquet`` beside the images or per split.

A row names its image in ``file_name``, relative to the folder of the metadata. ``objects`` holds boxes in COCO's form,
``{"bbox": [[x, y, width, height], …], "categories": […]}``; without it the columns of classes are attributes. Splits
are the words in the folders of the images (``train/``, ``data/validation/``). Names of numbered classes come from the
features in the head of ``README.md``.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from visionops.data.dataset import Dataset
from visionops.data.fast_json import require_unicode
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples
from visionops.data.formats.cells import cell_text, read_rows
from visionops.data.formats.labelled import Columns, LabelledImages, Row
from visionops.data.formats.names import Bases
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import LabelReader, list_names, number_of
from visionops.data.formats.splits import split_of_folders
from visionops.data.formats.table import label_columns
from visionops.data.label_rules import LabelRule
from visionops.data.layers import LABELS
from visionops.data.listing import Listing, folder_of, load_yaml, suffix_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError, DataError
from visionops.suggestions import suggest_name

__all__ = ["detect", "read"]

_METADATA = frozenset({"metadata.jsonl", "metadata.csv", "metadata.parquet"})
_NAME = "file_name"
_CATEGORY_KEYS = ("categories", "category", "labels", "label", "class", "classes")
_HEAD_BYTES = 1 << 18
_HEAD_ROWS = 400
_README_HEAD = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)

_Record = tuple[int, dict[str, Any]]
"""Line number, and values by column."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find metadata whose rows have a ``file_name``."""
    files = _metadata_files(listing)
    heads = [(file, records) for file in files if (records := _head(listing, file)) and _name_column(records)]
    if not heads:
        return None
    records = [record for _, records in heads for record in records]
    reasons = tuple(f"{file} has {_name_column(records)}" for file, records in heads[:3])
    what = f"Hugging Face imagefolder, {counted(len(files), 'metadata file')}"
    if _objects_column(records) and not data.labels:
        return Evidence(Strength.SURE, f"{what}, boxes", reasons)
    count = len(data.labels or label_columns(_columns(records))[0])
    return Evidence(Strength.SURE, f"{what}, {counted(count, 'attribute')}", reasons, layer=LABELS)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all metadata files.

    Raises:
        AnnotationError: There is no metadata, a file is malformed, or its rows name no image or hold no labels.
        DataError: A column of ``data.labels`` is missing.
    """
    files = _metadata_files(listing)
    if not files:
        raise AnnotationError(
            f"{listing.root}: no metadata.jsonl, metadata.csv or metadata.parquet below it; check data.source.path, "
            "or set data.format to auto"
        )
    records = {file: _records(listing, file) for file in files}
    if not any(records.values()):
        raise AnnotationError(f"{listing.path(files[0])}: has no row with an image; add rows")
    named = {file: own for file, own in records.items() if _name_column(own)}
    if not named:
        first = next(file for file, own in records.items() if own)
        raise AnnotationError(
            f"{listing.path(first)}:{records[first][0][0]}: lacks the column {_NAME}, which names the image; add it"
        )
    notes = [f"{file} has no column {_NAME}: it is not read." for file in files if file not in named and records[file]]
    dataset = _read_all(listing, data, named, name)
    return dataclasses.replace(dataset, notes=(*notes, *dataset.notes))


def _read_all(listing: Listing, data: DataConfig, records: dict[str, list[_Record]], name: str) -> Dataset:
    every = list(itertools.chain.from_iterable(records.values()))
    objects = _objects_column(every)
    names = _class_names(listing)
    if objects and not data.labels:
        return _read_boxes(listing, records, objects, names, name)
    return _read_labels(listing, data, records, names, name)


def _metadata_files(listing: Listing) -> list[str]:
    """Return one file per folder, the first in the order in which Hugging Face searches: CSV, JSON lines, Parquet."""
    found: dict[str, str] = {}
    for name in listing.files:
        if name.rpartition("/")[2] in _METADATA:
            found.setdefault(folder_of(name), name)
    return sorted(found.values())


# Records


def _head(listing: Listing, file: str) -> list[_Record]:
    """Return the first records; an empty list if the file cannot be read."""
    try:
        if suffix_of(file) == ".jsonl":
            with listing.path(file).open("rb") as stream:
                text = stream.read(_HEAD_BYTES).decode("utf-8-sig", errors="ignore")
            lines = text.split("\n")[: None if len(text) < _HEAD_BYTES // 4 else -1]
            return list(itertools.islice(_json_lines(lines[:_HEAD_ROWS], file), _HEAD_ROWS))
        return list(itertools.islice(_iter_records(listing, file), _HEAD_ROWS))
    except (AnnotationError, OSError, ValueError):
        return []


def _records(listing: Listing, file: str) -> list[_Record]:
    return list(_iter_records(listing, file))


def _iter_records(listing: Listing, file: str) -> Iterator[_Record]:
    path = listing.path(file)
    if suffix_of(file) == ".jsonl":
        yield from _json_lines(listing.read_lines(file), str(path))
    elif suffix_of(file) == ".parquet":
        yield from _parquet_records(listing, file)
    else:
        rows = read_rows(path, ",")
        _, header = next(rows, (1, []))
        for line, cells in rows:
            if len(cells) != len(header):
                raise AnnotationError(
                    f"{path}:{line}: has {len(cells)} values for {len(header)} columns; correct the row"
                )
            yield line, dict(zip(header, cells, strict=True))


def _json_lines(lines: Iterable[str], place: str) -> Iterator[_Record]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            require_unicode(line.encode("utf-8", "surrogatepass"), record)
        except (ValueError, RecursionError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise AnnotationError(f"{place}:{number}: not valid JSON ({reason}); export the metadata again") from error
        if not isinstance(record, dict):
            raise AnnotationError(f"{place}:{number}: must be an object with {_NAME}; export the metadata again")
        yield number, record


def _parquet_records(listing: Listing, file: str) -> Iterator[_Record]:
    """Yield records, with the header as line 1. Columns of bytes hold the images themselves and are not read."""
    path = listing.path(file)
    try:
        with pq.ParquetFile(path) as table:
            kinds = {field.name: field.type for field in table.schema_arrow}
            wanted = [
                n for n, kind in kinds.items() if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
            ]
            number = 2
            for batch in table.iter_batches(batch_size=10_000, columns=wanted):
                for record in batch.to_pylist():
                    yield number, record
                    number += 1
    except (pa.ArrowException, OSError, ValueError, ArithmeticError, LookupError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AnnotationError(f"{path}: not a Parquet file that can be read ({reason})") from error


def _name_column(records: list[_Record]) -> str | None:
    """Return ``file_name``, or the first column whose name ends with it."""
    keys = dict.fromkeys(key for _, record in records for key in record)
    return _NAME if _NAME in keys else next((key for key in keys if key.endswith(f"_{_NAME}")), None)


def _objects_column(records: list[_Record]) -> str | None:
    """Return the column with boxes."""
    for _, record in records:
        for key, value in record.items():
            rows = value if isinstance(value, list) else [value]
            if any(isinstance(row, dict) and "bbox" in row for row in rows):
                return str(key)
    return None


def _columns(records: list[_Record]) -> dict[str, list[str]]:
    """Return a mapping of columns to their cells as text, without file names."""
    keys = dict.fromkeys(key for _, record in records for key in record)
    kept = [key for key in keys if key and not f"_{key}".endswith(f"_{_NAME}")]
    return {key: [cell_text(record.get(key)) for _, record in records] for key in kept}


def _entries(listing: Listing, file: str, records: list[_Record]) -> tuple[list[ImageEntry], Bases]:
    column = _name_column(records) or _NAME
    entries = []
    for line, record in records:
        value = record.get(column)
        if not isinstance(value, str):
            raise AnnotationError(f"{listing.path(file)}:{line}: {column} must be the name of a file; correct it")
        split = split_of_folders(f"{folder_of(file)}/{value}".replace("\\", "/"), unlabelled=True)
        entries.append(ImageEntry(value, f"{file}:{line}", split))
    return entries, ((f"{folder_of(file)}/".removeprefix("/"),),)


def _reserved(
    listing: Listing, assembly: Assembly, records: dict[str, list[_Record]]
) -> dict[str, tuple[list[ImageEntry], Bases]]:
    """Return the images of each metadata file, reserved so that no other file matches them."""
    parts = {file: _entries(listing, file, own) for file, own in records.items()}
    for entries, bases in parts.values():
        assembly.reserve((entry.name for entry in entries), bases)
    return parts


# Boxes


def _read_boxes(
    listing: Listing, records: dict[str, list[_Record]], objects: str, names: dict[str, list[str]], name: str
) -> Dataset:
    assembly = Assembly(listing)
    declared = names.get(objects, [])
    used = {c for own in records.values() for _, record in own for c in _categories(record.get(objects))}
    numbers = sorted(number for number in used if isinstance(number, int))
    for class_name in declared or map(str, numbers):
        assembly.classes.id_of(class_name, "README.md")
    if numbers and not declared:
        shown = examples(map(str, numbers), 5)
        assembly.notes.append(f"Classes of {objects} are numbers that README.md does not name: {shown}.")
    others = [key for key in _columns([r for own in records.values() for r in own]) if key != objects]
    if others:
        assembly.notes.append(f"Columns of the metadata that are not used beside boxes: {list_names(others)}.")
    parts = _reserved(listing, assembly, records)
    for file, own in records.items():
        entries, bases = parts[file]
        rows = assembly.add_images(entries, bases)
        for row, entry, (_, record) in zip(rows, entries, own, strict=True):
            if row != DROPPED:
                _add_boxes(assembly, row, entry.where, record.get(objects), declared)
    return assembly.dataset(name, sort_classes=not declared and not numbers)


def _categories(objects: Any) -> list[int | str]:
    """Return every category of an image that is a number or a text, even if other values are wrong."""
    return [category for _, category in _pairs(objects) if _is_category(category)]


def _is_category(category: Any) -> bool:
    return isinstance(category, int | str) and not isinstance(category, bool)


def _pairs(objects: Any) -> list[tuple[Any, Any]]:
    """Return box and category of each object, None if missing, from a record of columns or a list of records."""
    if isinstance(objects, dict):
        key = next((key for key in _CATEGORY_KEYS if key in objects), "")
        boxes, categories = _list(objects.get("bbox")), _list(objects.get(key))
        return list(itertools.zip_longest(boxes, categories))
    rows = [row if isinstance(row, dict) else {} for row in _list(objects)]
    return [(row.get("bbox"), next((row[key] for key in _CATEGORY_KEYS if key in row), None)) for row in rows]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _add_boxes(assembly: Assembly, row: int, where: str, objects: Any, declared: list[str]) -> None:
    key = (assembly.keys[row],)
    for number, (box, category) in enumerate(_pairs(objects), start=1):
        place = f"{where}: object {number}"
        if not _is_category(category):
            message = f"its category is {category!r}, neither a number nor a text; correct or remove it"
            assembly.found(Code.UNKNOWN_CATEGORY, place, message, key)
            continue
        if isinstance(category, int) and declared and not 0 <= category < len(declared):
            message = f"category {category} is not one of the {len(declared)} that README.md names; correct one of them"
            assembly.found(Code.UNKNOWN_CATEGORY, place, message, key)
            continue
        values = box if isinstance(box, list) else []
        if len(values) != 4 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            message = f"bbox must be [x, y, width, height], but is {str(box)[:60]}; redraw or remove it"
            assembly.found(Code.BAD_BOX, place, message, key)
            continue
        x, y, width, height = (_float(value) for value in values)
        class_name = declared[category] if isinstance(category, int) and declared else str(category).strip()
        assembly.add_box(row, class_name, (x, y, x + width, y + height), place)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


# Labels


def _read_labels(
    listing: Listing,
    data: DataConfig,
    records: dict[str, list[_Record]],
    names: dict[str, list[str]],
    name: str,
) -> Dataset:
    every = [record for own in records.values() for record in own]
    cells = _columns(every)
    place = next(iter(records))
    skipped: dict[str, str] = {}
    if data.labels:
        attributes = {attribute: rule.column or attribute for attribute, rule in data.labels.items()}
        for attribute, column in attributes.items():
            if column not in cells:
                raise DataError(
                    f"data.labels.{attribute}: the metadata of {listing.root} has no column {column!r}; "
                    f"{suggest_name(column, cells)}"
                )
    else:
        found, skipped = label_columns({c: own for c, own in cells.items() if c not in names})
        attributes = {column: column for column in cells if column in found or column in names}
    if not attributes:
        why = f" ({', '.join(f'{c}: {reason}' for c, reason in skipped.items())})" if skipped else ""
        raise AnnotationError(f"{listing.path(place)}: has no column of labels{why}; add one beside {_NAME}")
    rules = {
        attribute: _named(attribute, names[column], cells[column])
        for attribute, column in attributes.items()
        if column in names and attribute not in data.labels
    }
    labelled = LabelledImages(listing, data, Columns(tuple(cells), attributes, rules=rules))
    unused = [column for column in cells if column not in attributes.values() and column not in skipped]
    if unused:
        labelled.notes.append(f"Columns of the metadata that are not used: {list_names(unused)}.")
    if skipped:
        shown = ", ".join(f"{column} ({reason})" for column, reason in skipped.items())
        labelled.notes.append(f"Columns of the metadata that are not labels, left out: {shown}.")
    start = 0
    parts = _reserved(listing, labelled.assembly, records)
    for file, own in records.items():
        entries, bases = parts[file]
        rows = [
            Row(file, line, entry.name, tuple(column[i] for column in cells.values()), entry.split)
            for i, ((line, _), entry) in enumerate(zip(own, entries, strict=True), start=start)
        ]
        start += len(own)
        labelled.add(rows, f"{folder_of(file)}/".removeprefix("/"), bases, ("",))
    if labelled.entries and not any(key in listing.files for key in labelled.entries):
        key, row = next(iter(labelled.entries.items()))
        raise AnnotationError(
            f"{listing.path(row.place)}:{row.line}: no image of the metadata exists, such as {listing.path(key)}; "
            "names are relative to the folder of the metadata: correct them"
        )
    return labelled.dataset(name, ("",), place)


def _named(attribute: str, names: list[str], raws: list[str]) -> LabelReader:
    """Return a reader that maps numbers to the named classes in order; texts are the names themselves."""
    if len(names) < 2 or len(set(names)) < len(names):
        return LabelReader.by_values(attribute, raws)
    numbered = any(number_of(raw) is not None for raw in raws)
    classes: dict[str, tuple[int | str, ...]]
    classes = {name: (i, name) if numbered and number_of(name) is None else (name,) for i, name in enumerate(names)}
    if numbered and any(number_of(name) is not None for name in names):
        classes = {name: (i,) for i, name in enumerate(names)}
    try:
        return LabelReader.by_rule(attribute, LabelRule(classes=classes))
    except ValueError:  # names that are equal as raw values, such as "1" and "1.0"
        return LabelReader.by_values(attribute, raws)


# Names of classes


def _class_names(listing: Listing) -> dict[str, list[str]]:
    """Return a mapping of columns to class names in the head of ``README.md``; empty if there is none."""
    file = listing.find("README.md")
    if file is None:
        return {}
    try:
        head = _README_HEAD.match(listing.read_text(file))
        raw = load_yaml(head[1]) if head else None
        infos = raw.get("dataset_info") if isinstance(raw, dict) else None
        found: dict[str, list[str]] = {}
        for info in _list(infos):
            for feature in _list(info.get("features")) if isinstance(info, dict) else ():
                column = feature.get("name") if isinstance(feature, dict) else None
                if isinstance(column, str) and (names := _names_below(feature)):
                    found.setdefault(column, names)
    except (AnnotationError, yaml.YAMLError, ValueError, RecursionError):
        return {}  # a text for people, which is not needed
    return found


def _names_below(feature: Any) -> list[str]:
    """Return the names of the first ``class_label`` in a feature, at any depth, in the order of their numbers."""
    if isinstance(feature, list):
        return next(filter(None, map(_names_below, feature)), [])
    if not isinstance(feature, dict):
        return []
    label = feature.get("class_label")
    names = label.get("names") if isinstance(label, dict) else None
    if isinstance(names, list):
        return [str(name).strip() for name in names]
    if isinstance(names, dict):
        ids = [key for key in names if isinstance(key, str) and key.isascii() and key.isdigit()]
        in_order = sorted(ids, key=int)
        return [str(names[key]).strip() for key in in_order] if len(ids) == len(names) else []
    return _names_below(list(feature.values()))
