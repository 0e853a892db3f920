"""Read tables with one row per box: TensorFlow, Roboflow, keras-retinanet, AutoML, Open Images.

Columns are recognized by their names, in any order and case. A row without a box is an image without objects. Boxes are
in pixels; if every number of a table is between 0 and 1, they are fractions of the image. Boxes around groups
(``IsGroupOf``) are crowds, like ``iscrowd`` in COCO.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, ImageEntry, examples
from visionops.data.formats.box_columns import Layout, explain, find_layout, holds_boxes, padded
from visionops.data.formats.cells import TABLE_SUFFIXES, head_rows, is_text_table, note_unread_sheets, read_rows
from visionops.data.formats.labelled import Columns, LabelledImages, Row
from visionops.data.formats.names import Bases
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import is_missing, number_of
from visionops.data.formats.splits import SPLIT_WORDS, split_of_file, split_of_folders
from visionops.data.formats.urls import declared_path, find_declared
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError
from visionops.suggestions import suggest_name

__all__ = ["detect", "read"]

_MOST_SAMPLED = 40
_DELIMITERS = (",", ";", "\t")
_MAX_SIDE = 2**31 - 1
_ONE_CLASS = "object"
_MACHINE_ID = re.compile(r"/[mgt]/")
_AUTOML_SPLITS = {"validate": Split.VAL, "unassigned": Split.NONE}
_TRUE = frozenset({"1", "true", "yes"})
_LARGEST_FRACTION = 1.05
"""Maximum fraction of a box, which may extend slightly over the border."""

_Corners = tuple[float, float, float, float]


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find tables with columns for an image and a box."""
    del data
    if not listing.images:
        return None
    candidates = _candidates(listing)[:_MOST_SAMPLED]
    tables = [table for place in candidates if (table := _look_into(listing, place))]
    if not tables:
        unclear = next((place for place in candidates if _is_unclear(_head(listing, place)[1])), None)
        reasons = [f"{unclear} has columns of boxes, but they are ambiguous"]
        return Evidence(Strength.LIKELY, "a table of boxes", tuple(reasons)) if unclear else None
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

    The split of an image comes from a column, else from the name of the table or its folder if there are several
    tables, else from the folder of the image. Classes are in alphabetical order.

    Raises:
        AnnotationError: There is no such table, its columns are ambiguous, or a row is too short.
    """
    candidates = _candidates(listing)
    tables = [table for place in candidates if (table := _look_into(listing, place))]
    if not tables:
        _explain_absence(listing, candidates)
    labelled = LabelledImages(listing, data, Columns((), {}))
    reader = _Reader(labelled, several=len(tables) > 1, crowds_are_objects=data.crowds == "objects")
    others = [place for place in candidates if place not in {table.place for table in tables}]
    for place in others:
        if names := _descriptions(listing, place):
            reader.descriptions |= names
            others = [other for other in others if other != place]
            reader.assembly.notes.append(f"Class names are taken from {place}.")
    reader.add(tables)
    for table in tables:
        reader.assembly.notes += note_unread_sheets(listing.path(table.place), table.shown)
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
        """The place as storable text: bytes that are not Unicode are escaped."""
        return self.place.encode("utf-8", "backslashreplace").decode()


def _candidates(listing: Listing) -> list[str]:
    found = [name for suffix in TABLE_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
    return sorted(found, key=lambda name: (name.count("/"), name))


def _look_into(listing: Listing, place: str) -> _Table | None:
    delimiter, rows = _head(listing, place)
    layout = find_layout(rows)
    return _Table(place, delimiter, rows[0], layout) if layout else None


def _head(listing: Listing, place: str) -> tuple[str, list[list[str]]]:
    """Return the delimiter that splits the first row most often, and the first rows."""
    if not is_text_table(place):
        return ",", [cells for _, cells in head_rows(listing.path(place), ",", lists=True)]
    heads = {d: [cells for _, cells in head_rows(listing.path(place), d)] for d in _DELIMITERS}
    delimiter = max(_DELIMITERS, key=lambda d: len(heads[d][0]) if heads[d] else 0)
    if heads[delimiter] and len(heads[delimiter][0]) == 1:  # spaces may also be within the cells of others
        delimiter = "whitespace"
        heads[delimiter] = [cells for _, cells in head_rows(listing.path(place), delimiter)]
    return delimiter, heads[delimiter]


def _is_unclear(rows: list[list[str]]) -> bool:
    return bool(rows) and holds_boxes(rows) and bool(explain(rows))


def _descriptions(listing: Listing, place: str) -> dict[str, str]:
    """Return the names that Open Images gives its classes, ``/m/0dv9c,Racket``; empty if it is not such a table."""
    if not all(len(row) == 2 and _MACHINE_ID.match(row[0]) for row in _head(listing, place)[1] or [[]]):
        return {}
    rows = [cells for _, cells in read_rows(listing.path(place), ",")]
    return {row[0]: row[1] for row in rows if len(row) == 2 and not is_missing(row[1])}


def _refuse_damaged(listing: Listing, place: str) -> None:
    """Read a table whose head cannot be read.

    Raises:
        AnnotationError: It is not text, or its quotes do not match.
    """
    if not _head(listing, place)[1]:
        for _ in read_rows(listing.path(place), ","):
            pass


def _explain_absence(listing: Listing, candidates: list[str]) -> None:
    """Raise an error that explains why there is no table of boxes.

    Raises:
        AnnotationError: Always.
    """
    for place in candidates:
        _refuse_damaged(listing, place)
        _, rows = _head(listing, place)
        if rows and (reason := explain(rows)):
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
        f"{listing.root}: no table below it has one row per box (tables: {examples(candidates, 5) or 'none'}); write "
        "a header with filename, xmin, ymin, xmax, ymax and class, or set data.format"
    )


# Reading


class _Box(NamedTuple):
    line: int
    class_name: str
    numbers: _Corners
    """Numbers as written; NaN where one is missing."""
    is_group: bool


class _Image:
    def __init__(self, row: Row, size: tuple[int, int]) -> None:
        self.row = row
        self.size = size
        self.boxes: list[_Box] = []
        self.splits: dict[str, int] = {}
        """Maps a word in the split column to its first line."""


class _Reader:
    def __init__(self, labelled: LabelledImages, *, several: bool, crowds_are_objects: bool) -> None:
        self.labelled = labelled
        self.assembly = labelled.assembly
        self.listing = labelled.listing
        self.several = several
        self.crowds_are_objects = crowds_are_objects
        self.descriptions: dict[str, str] = {}
        """Maps the id of a class to its name."""
        self.bare: dict[int, bool] = {}
        """Maps a row to whether it has only boxes around groups."""
        self.counts: Counter[str] = Counter()
        self.bad_splits: dict[str, list[str]] = {}
        self.table_of: dict[int, str] = {}
        """Maps a row to its table."""
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
            note = f"{table.shown}: all boxes are fractions of their images, and are scaled to pixels."
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
        lines = read_rows(path, table.delimiter, lists=True)
        if layout.has_header:
            next(lines, None)
        for line, raw in lines:
            cells = padded(raw, layout)
            where = f"{path}:{line}"
            if len(cells) != layout.width:
                columns = counted(layout.width, "column")
                raise AnnotationError(f"{where}: has {len(cells)} values, expected {columns}; correct the row")
            name = cells[layout.image]
            if is_missing(name):
                message = "has no image name; left out; correct the row"
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
        label = self.descriptions.get(label, label)
        if all(map(is_missing, texts)):
            self.counts["labelled"] += layout.label is not None and not is_missing(label)
            return
        numbers = [number_of(t.replace(",", ".") if table.delimiter != "," else t) for t in texts]
        count = 8 if layout.kind == "points" else 4
        if len(numbers) != count or None in numbers:
            shown = ", ".join(texts)[:80]
            message = f"the box must be {'four' if count == 4 else 'eight'} numbers, but is {shown!r}; correct the row"
            self.assembly.found(Code.BAD_BOX, where, message, (image.row.image,))
            return
        if is_missing(label):
            message = "the box has no class; add one or remove the row"
            self.assembly.found(Code.UNKNOWN_CATEGORY, where, message, (image.row.image,))
            return
        is_group = layout.groups is not None and cells[layout.groups].casefold() in _TRUE
        values = [number for number in numbers if number is not None]
        if layout.kind == "points":
            self.counts["quads"] += 1
            xs, ys = values[0::2], values[1::2]
            values = [min(xs), min(ys), max(xs), max(ys)]
        a, b, c, d = values
        image.boxes.append(_Box(line, label, (a, b, c, d), is_group))

    def _are_fractions(self, table: _Table, images: list[_Image]) -> bool:
        if table.layout.fractions:
            return True
        numbers = [number for image in images for box in image.boxes for number in box.numbers]
        if not numbers or min(numbers) < 1 - _LARGEST_FRACTION or max(numbers) > _LARGEST_FRACTION:
            return False
        return any(0 < number < 1 for number in numbers)

    def _add_images(self, table: _Table, images: list[_Image]) -> list[int]:
        assembly = self.assembly
        bases = _bases(table.place)
        names = self.labelled.with_suffix([image.row for image in images], bases)
        plain = [declared_path(name) if name is not None else None for name in names]
        usable = [name for name in plain if name is not None]
        matches = find_declared(assembly.index, filter(None, names), usable, bases)
        found = dict(zip(usable, matches, strict=True))
        folders = {split_of_folders(match.file or wanted) for wanted, match in found.items()} - {Split.NONE}
        home = assembly.home(bases)
        rows = []
        for name, wanted, image in zip(names, plain, images, strict=True):
            if name is None:
                rows.append(DROPPED)  # the stem of several images; a finding reports it
                continue
            entry = ImageEntry(name, image.row.where, Split.NONE, *image.size)
            if wanted is None:
                message = f"file name {name!r} is not a plain path inside the data set; correct it"
                assembly.found(Code.UNSAFE_NAME, entry.where, message)
                rows.append(DROPPED)
                continue
            match = found[wanted]
            split = self._split(table, image, wanted)
            if split is None:  # a single word names the origin of the folder, not a split
                split = split_of_folders(match.file or wanted) if len(folders) > 1 else Split.NONE
            entry = entry._replace(split=split)
            rows.append(assembly.add_match(entry, wanted, match, home))
        return rows

    def _split(self, table: _Table, image: _Image, name: str) -> Split | None:
        """Return the split from a column of the table or from its name; None if neither gives one."""
        known: dict[Split, int] = {}
        for word, line in image.splits.items():
            split = _AUTOML_SPLITS.get(word, SPLIT_WORDS.get(word))
            if split is None:
                self.bad_splits.setdefault(word, []).append(f"{table.shown}:{line}")
            else:
                known.setdefault(split, line)
        if len(known) > 1:
            words = " and ".join(split.value or "no split" for split in known)
            message = f"{image.row.image} is in {words}; the first is kept; correct the rows"
            self.assembly.found(Code.CONTRADICTING_ROW, f"{table.shown}:{max(known.values())}", message, (name,))
        if known:
            return next(iter(known))
        if table.layout.split is not None:
            return Split.NONE
        if self.several:
            return split_of_file(table.place) or None
        return None

    def _add_boxes(self, table: _Table, row: int, image: _Image, *, scaled: bool) -> None:
        width, height = self.assembly.size_of(row) if scaled else (1, 1)
        if not (width and height):
            self.counts["sizeless"] += len(image.boxes)
            return
        for box in image.boxes:
            taken = self.crowds_are_objects or not box.is_group
            self.bare[row] = self.bare.get(row, True) and not taken
            self.counts["groups"] += box.is_group
            if taken:
                x1, y1, x2, y2 = _corners(table.layout.kind, box.numbers)
                where = f"{table.shown}:{box.line}"
                self.assembly.add_box(row, box.class_name, (x1 * width, y1 * height, x2 * width, y2 * height), where)

    def dataset(self, name: str) -> Dataset:
        assembly, counts = self.assembly, self.counts
        assembly.notes += self.labelled.notes
        for word, places in self.bad_splits.items():
            without = f"{counted(len(places), 'image')} without one"
            message = f"{word!r} is not a split; {suggest_name(word, SPLIT_WORDS)} ({without})"
            assembly.found(Code.UNKNOWN_LABEL, places[0], message)
        if counts["labelled"]:
            notes = f"{counted(counts['labelled'], 'row has a class', 'rows have a class')} but no box: no object."
            assembly.notes.append(notes)
        if counts["groups"]:
            what = "read as objects" if self.crowds_are_objects else "left out: they outline groups"
            assembly.notes.append(f"{counted(counts['groups'], 'box', 'boxes')} around groups (crowds) {what}.")
        if counts["quads"]:
            assembly.notes.append(f"{counted(counts['quads'], 'shape')} of four points read as the box around it.")
        if counts["sizeless"]:
            what = "they are fractions of an image whose size is not known"
            assembly.notes.append(f"{counted(counts['sizeless'], 'box', 'boxes')} left out: {what}.")
        if self.classless:
            assembly.notes.append(f"No column of {examples(self.classless)} names a class: it is {_ONE_CLASS!r}.")
        return assembly.dataset(name, sort_classes=True, leave_out=self._find_crowd_only())

    def _find_crowd_only(self) -> set[int]:
        """Return the rows of images that have only boxes around groups, and add a finding."""
        rows = {row for row, is_bare in self.bare.items() if is_bare}
        if rows:
            keys = tuple(self.assembly.keys[row] for row in sorted(rows))
            self.assembly.found(
                Code.CROWD_ONLY,
                counted(len(keys), "image"),
                f"only boxes around groups, left out, as they would count as background: {examples(keys, 12)}; "
                "set data.crowds: objects if each outlines one object",
                keys,
            )
        return rows


def _corners(kind: str, numbers: _Corners) -> _Corners:
    a, b, c, d = numbers
    if kind == "size":
        return a, b, a + c, b + d
    return (a - c / 2, b - d / 2, a + c / 2, b + d / 2) if kind == "centre" else numbers


def _size(cells: list[str], layout: Layout) -> tuple[int, int]:
    """Return width and height as declared in the row; 0 if they are not."""
    if layout.size is None:
        return 0, 0
    width, height = (number_of(cells[i]) or 0.0 for i in layout.size)
    whole = width.is_integer() and height.is_integer()
    if not whole or min(width, height) < 1 or max(width, height) > _MAX_SIDE:
        return 0, 0
    return int(width), int(height)


def _bases(place: str) -> Bases:
    """Return the bases of names: the table's folder, folders of images or of its split beside it, or the root."""
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
