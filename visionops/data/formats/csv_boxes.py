"""Tables with a row a box, as CSV or TSV: TensorFlow, Roboflow, keras-retinanet, AutoML, Open Images, Kaggle.

Columns are known by their names, in any order and case. A row without a box is an image without objects. Boxes are
pixels; where every number of a table lies within 0 and 1, they are fractions of the image.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, ImageEntry, examples
from visionops.data.formats.box_columns import Layout, explain, find_layout, padded
from visionops.data.formats.cells import head_rows, read_rows
from visionops.data.formats.labelled import Columns, LabelledImages, Row
from visionops.data.formats.names import Bases, plain_name
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import is_missing, number_of, suggest
from visionops.data.formats.splits import SPLIT_WORDS, split_in_name, split_of_folders
from visionops.data.formats.urls import find_paths, path_of_url
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_MOST_SAMPLED = 40
_DELIMITERS = (",", ";", "\t")
_MAX_SIDE = 2**31 - 1
_ONE_CLASS = "object"
_AUTOML_SPLITS = {"validate": Split.VAL, "unassigned": Split.NONE}
_TRUE = frozenset({"1", "true"})

_Corners = tuple[float, float, float, float]


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find tables whose columns are an image and a box."""
    del data
    if not listing.images:
        return None
    tables = [table for place in _candidates(listing)[:_MOST_SAMPLED] if (table := _look_into(listing, place))]
    if not tables:
        return None
    first = tables[0]
    reasons = []
    for table in tables[:3]:
        columns = ", ".join(table.header[i] for i in (table.layout.image, *table.layout.box))
        reasons.append(
            f"{table.place} has " + (f"the columns {columns}" if table.layout.has_header else "rows of boxes")
        )
    maker = "AutoML" if not first.layout.has_header and first.layout.fractions else "detection CSV"
    strength = Strength.LIKELY if first.layout.has_header else Strength.SURE
    return Evidence(strength, f"{maker}, {counted(len(tables), 'table')}", tuple(reasons))


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all tables of boxes.

    The split of an image is what a column says, else the name of the table or of its folder where there are several,
    else the folder of the image. Classes are in alphabetical order.

    Raises:
        AnnotationError: There is no such table, its columns are not clear, or a row is short.
    """
    candidates = _candidates(listing)
    tables = [table for place in candidates if (table := _look_into(listing, place))]
    if not tables:
        _explain_absence(listing, candidates)
    reader = _Reader(LabelledImages(listing, data, Columns((), {})), several=len(tables) > 1)
    reader.add(tables)
    others = [place for place in candidates if place not in {table.place for table in tables}]
    for place in others:
        _refuse_damaged(listing, place)
    if others:
        reader.assembly.notes.append(f"{counted(len(others), 'table')} without boxes not read ({examples(others)}).")
    return reader.dataset(name)


class _Table(NamedTuple):
    place: str
    delimiter: str
    header: list[str]
    layout: Layout

    @property
    def shown(self) -> str:
        """The place as text that can be stored: bytes that are no Unicode are escaped."""
        return self.place.encode("utf-8", "backslashreplace").decode()


def _candidates(listing: Listing) -> list[str]:
    found = [name for suffix in (".csv", ".tsv") for name in listing.by_suffix.get(suffix, ())]
    return sorted(found, key=lambda name: (name.count("/"), name))


def _look_into(listing: Listing, place: str) -> _Table | None:
    delimiter, rows = _head(listing, place)
    layout = find_layout(rows)
    return _Table(place, delimiter, rows[0], layout) if layout else None


def _head(listing: Listing, place: str) -> tuple[str, list[list[str]]]:
    """The delimiter that parts the first row most often, and the first rows."""
    heads = {d: [cells for _, cells in head_rows(listing.path(place), d)] for d in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda d: len(heads[d][0]) if heads[d] else 0)
    return delimiter, heads[delimiter]


def _refuse_damaged(listing: Listing, place: str) -> None:
    """Read a table of whose head nothing can be read.

    Raises:
        AnnotationError: It is no text, or its quotes do not match.
    """
    if not _head(listing, place)[1]:
        for _ in read_rows(listing.path(place), ","):
            pass


def _explain_absence(listing: Listing, candidates: list[str]) -> None:
    """Say why no table is one of boxes.

    Raises:
        AnnotationError: Always.
    """
    for place in candidates:
        _refuse_damaged(listing, place)
        _, rows = _head(listing, place)
        if rows and (reason := explain(rows[0])):
            raise AnnotationError(f"{listing.path(place)}:1: {reason}")
    if len(candidates) == 1:
        delimiter, rows = _head(listing, candidates[0])
        header = next(iter(read_rows(listing.path(candidates[0]), delimiter)), (1, []))[1]
        listed = ", ".join(map(repr, header)) or "none"
        raise AnnotationError(
            f"{listing.path(candidates[0])}:1: no columns of boxes (columns: {listed}); write a header with filename, "
            "xmin, ymin, xmax, ymax and class"
        )
    raise AnnotationError(
        f"{listing.root}: no CSV or TSV below it has a row a box (tables: {examples(candidates, 5) or 'none'}); write "
        "a header with filename, xmin, ymin, xmax, ymax and class, or set data.format"
    )


# Reading


class _Box(NamedTuple):
    line: int
    class_name: str
    numbers: _Corners
    """As they stand, made corners."""


class _Image:
    def __init__(self, row: Row, size: tuple[int, int]) -> None:
        self.row = row
        self.size = size
        self.boxes: list[_Box] = []
        self.splits: dict[str, int] = {}
        """Word of the column of splits to its first line."""


class _Reader:
    def __init__(self, labelled: LabelledImages, *, several: bool) -> None:
        self.labelled = labelled
        self.assembly = labelled.assembly
        self.listing = labelled.listing
        self.several = several
        self.counts: Counter[str] = Counter()
        self.bad_splits: dict[str, list[str]] = {}
        self.table_of: dict[int, str] = {}
        """Row to the table that it comes from."""
        self.classless: list[str] = []

    def add(self, tables: Sequence[_Table]) -> None:
        contents = [(table, self._read(table)) for table in tables]
        for table, images in contents:
            self.assembly.reserve((image.row.image for image in images), _bases(table.place))
        for table, images in contents:
            self._add(table, images)

    def _add(self, table: _Table, images: list[_Image]) -> None:
        if table.layout.label is None:
            self.classless.append(table.shown)
        scaled = self._are_fractions(table, images)
        if scaled and not table.layout.fractions:
            note = f"{table.shown}: all boxes are fractions of their images, and are read as such."
            self.assembly.notes.append(note)
        shared = Counter[str]()
        rows = self._add_images(table, images)
        for row, image in zip(rows, images, strict=True):
            if row == DROPPED:
                continue
            other = self.table_of.setdefault(row, table.shown)
            if other != table.shown:
                shared[other] += 1
            self._add_boxes(table, row, image, scaled=scaled)
        for other, count in shared.items():
            if count * 2 > len(images):
                raise AnnotationError(
                    f"{self.listing.root}: {other} and {table.shown} list the same {counted(count, 'image')}; keep the "
                    "tables of the splits, or the one of all images"
                )

    def _read(self, table: _Table) -> list[_Image]:
        layout, path = table.layout, self.listing.path(table.place)
        images: dict[str, _Image] = {}
        lines = read_rows(path, table.delimiter)
        if layout.has_header:
            next(lines, None)
        for line, raw in lines:
            cells = padded(raw, layout)
            where = f"{path}:{line}"
            if len(cells) != layout.width:
                columns = counted(layout.width, "column")
                raise AnnotationError(f"{where}: has {len(cells)} values for {columns}; correct the row")
            name = cells[layout.image]
            if is_missing(name):
                message = "names no image; left out: correct the row"
                self.assembly.found(Code.UNKNOWN_IMAGE, f"{table.shown}:{line}", message)
                continue
            image = images.get(name)
            if image is None:
                image = images[name] = _Image(Row(table.shown, line, name, ()), _size(cells, layout))
            if layout.split is not None and not is_missing(cells[layout.split]):
                image.splits.setdefault(cells[layout.split].casefold(), line)
            self._read_box(table, line, cells, image)
        return list(images.values())

    def _read_box(self, table: _Table, line: int, cells: list[str], image: _Image) -> None:
        layout, where = table.layout, f"{table.shown}:{line}"
        texts = [cells[i] for i in layout.box]
        if len(texts) == 1:
            texts = (
                re.split(r"[\s,;]+", texts[0].strip("[](){} \t")) if not is_missing(texts[0].strip("[]() ")) else [""]
            )
        label = _ONE_CLASS if layout.label is None else cells[layout.label]
        if all(map(is_missing, texts)):
            self.counts["labelled"] += layout.label is not None and not is_missing(label)
            return
        numbers = [number_of(t.replace(",", ".") if table.delimiter != "," else t) for t in texts]
        if len(numbers) != 4 or None in numbers:
            shown = ", ".join(texts)[:80]
            message = f"the box must be four numbers, but is {shown!r}; correct the row"
            self.assembly.found(Code.BAD_BOX, where, message, (image.row.image,))
            return
        if is_missing(label):
            message = "the box has no class; write one or remove the row"
            self.assembly.found(Code.UNKNOWN_CATEGORY, where, message, (image.row.image,))
            return
        if layout.groups is not None and cells[layout.groups].casefold() in _TRUE:
            self.counts["groups"] += 1
        a, b, c, d = (number if number is not None else math.nan for number in numbers)
        if layout.kind == "size":
            corners = a, b, a + c, b + d
        elif layout.kind == "centre":
            corners = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        else:
            corners = a, b, c, d
        image.boxes.append(_Box(line, label, corners))

    def _are_fractions(self, table: _Table, images: list[_Image]) -> bool:
        if table.layout.fractions:
            return True
        numbers = [number for image in images for box in image.boxes for number in box.numbers]
        if not numbers or min(numbers) < -1e-6 or max(numbers) > 1 + 1e-6:
            return False
        return any(0 < number < 1 for number in numbers)

    def _add_images(self, table: _Table, images: list[_Image]) -> list[int]:
        assembly = self.assembly
        bases = _bases(table.place)
        names = self.labelled.with_suffix([image.row for image in images], bases)
        declared = [path_of_url(name) or name if name and "://" in name else name for name in names]
        plain = [plain_name(name) if name is not None else None for name in declared]
        usable = [name for name in plain if name is not None]
        if any(name and "://" in name for name in names):
            found = find_paths(assembly.index, usable, bases)
        else:
            found = dict(zip(usable, assembly.index.match(usable, bases), strict=True))
        folders = {split_of_folders(match.file or wanted) for wanted, match in found.items()} - {Split.NONE}
        home = assembly.home(bases)
        rows = []
        for name, wanted, image in zip(names, plain, images, strict=True):
            if name is None:
                rows.append(DROPPED)  # the stem of several images, as a finding says
                continue
            entry = ImageEntry(name, image.row.where, Split.NONE, *image.size)
            if wanted is None:
                message = f"file name {name!r} is not a plain path below the data set; write it as one"
                assembly.found(Code.UNSAFE_NAME, entry.where, message)
                rows.append(DROPPED)
                continue
            match = found[wanted]
            split = self._split(table, image, wanted)
            if split is None:  # one word says where the folder comes from, not what to split
                split = split_of_folders(match.file or wanted) if len(folders) > 1 else Split.NONE
            entry = entry._replace(split=split)
            rows.append(assembly.add_match(entry, wanted, match, home))
        return rows

    def _split(self, table: _Table, image: _Image, name: str) -> Split | None:
        """The split that the table says, by a column or its name; None where it says nothing."""
        known: dict[Split, int] = {}
        for word, line in image.splits.items():
            split = _AUTOML_SPLITS.get(word, SPLIT_WORDS.get(word))
            if split is None:
                self.bad_splits.setdefault(word, []).append(f"{table.shown}:{line}")
            else:
                known.setdefault(split, line)
        if len(known) > 1:
            words = " and ".join(split.value or "no split" for split in known)
            message = f"{image.row.image} stands in {words}; the first is kept; correct the rows"
            self.assembly.found(Code.CONTRADICTING_ROW, f"{table.shown}:{max(known.values())}", message, (name,))
        if known:
            return next(iter(known))
        if table.layout.split is not None:
            return Split.NONE
        if self.several:
            named = split_in_name(stem_of(table.place).rpartition("/")[2])
            if named is not Split.NONE or (named := split_in_name(folder_of(table.place).rpartition("/")[2])):
                return named
        return None

    def _add_boxes(self, table: _Table, row: int, image: _Image, *, scaled: bool) -> None:
        width, height = self.assembly.size_of(row) if scaled else (1, 1)
        if not (width and height):
            self.counts["sizeless"] += len(image.boxes)
            return
        for box in image.boxes:
            x1, y1, x2, y2 = box.numbers
            where = f"{table.shown}:{box.line}"
            self.assembly.add_box(row, box.class_name, (x1 * width, y1 * height, x2 * width, y2 * height), where)

    def dataset(self, name: str) -> Dataset:
        assembly, counts = self.assembly, self.counts
        assembly.notes += self.labelled.notes
        for word, places in self.bad_splits.items():
            message = (
                f"{word!r} is no split; {suggest(word, SPLIT_WORDS)} ({counted(len(places), 'image')} without one)"
            )
            assembly.found(Code.UNKNOWN_LABEL, places[0], message)
        if counts["labelled"]:
            notes = f"{counted(counts['labelled'], 'row has a class', 'rows have a class')} and no box: no object."
            assembly.notes.append(notes)
        if counts["groups"]:
            assembly.notes.append(
                f"{counted(counts['groups'], 'box', 'boxes')} around groups (IsGroupOf) read as boxes."
            )
        if counts["sizeless"]:
            what = "they are fractions of an image whose size is not known"
            assembly.notes.append(f"{counted(counts['sizeless'], 'box', 'boxes')} left out: {what}.")
        if self.classless:
            assembly.notes.append(f"No column of {examples(self.classless)} names a class: it is {_ONE_CLASS!r}.")
        return assembly.dataset(name, sort_classes=True)


def _size(cells: list[str], layout: Layout) -> tuple[int, int]:
    """Width and height as the row declares them; 0 where it does not."""
    if layout.size is None:
        return 0, 0
    width, height = (number_of(cells[i]) or 0.0 for i in layout.size)
    whole = width.is_integer() and height.is_integer()
    if not whole or min(width, height) < 1 or max(width, height) > _MAX_SIDE:
        return 0, 0
    return int(width), int(height)


def _bases(place: str) -> Bases:
    """Names are relative to the folder of the table, to folders of images or of its split beside it, or to the root."""
    folder = folder_of(place)
    here = f"{folder}/" if folder else ""
    above = f"{folder_of(folder)}/" if folder_of(folder) else ""
    stem = stem_of(place).rpartition("/")[2]
    subsets = dict.fromkeys((stem, *re.findall("[a-z]+", stem.lower())))
    of_subset = dict.fromkeys(
        f"{start}{images}{subset}/" for start in (here, above, "") for images in ("images/", "") for subset in subsets
    )
    usual = dict.fromkeys(f"{start}{images}" for start in (here, above, "") for images in ("images/", "data/", ""))
    return ((here,), tuple(of_subset), tuple(usual))
