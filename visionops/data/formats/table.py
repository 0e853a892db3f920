"""Read attribute tables: one row per image and one column per attribute, with the images in folders beside it (lots).

A table is a CSV, TSV, Parquet or Excel file. Its rows name images by their paths, or by their stems if the column holds
identifiers. Images without a row are for batch inference.

With ``data.format: auto``, missing settings are detected: the table, its delimiter, the column that names images, the
split column, and which of the others are labels.
"""

from __future__ import annotations

import collections
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from visionops.data.dataset import Dataset, Split
from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import counted
from visionops.data.formats.assembly import examples
from visionops.data.formats.box_columns import holds_boxes
from visionops.data.formats.cells import (
    DELIMITERS,
    TABLE_SUFFIXES,
    head_rows,
    is_text_table,
    note_unread_sheets,
    read_rows,
)
from visionops.data.formats.labelled import Columns, LabelledImages, Row, why_no_label
from visionops.data.formats.names import Bases, plain_name
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import LabelReader, is_missing, list_names
from visionops.data.formats.splits import SPLIT_WORDS, split_of_file
from visionops.data.layers import LABELS
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.data.settings import DataConfig, Format
from visionops.errors import AnnotationError, DataError
from visionops.suggestions import suggest_name

__all__ = ["detect", "label_columns", "names_images", "read", "split_column"]

_MOST_TABLES = 40
"""Maximum number of tables to inspect; more indicate one file per image, which is not this format."""
_USUAL_NAME = "attributes.csv"
_SPLIT_NAMES = frozenset({"split", "set", "subset", "partition", "phase", "datasplit"})

_Line = tuple[int, list[str]]


class _Found(NamedTuple):
    """A table that names images, and how to read it."""

    place: str
    delimiter: str
    columns: tuple[str, ...] | None
    """Names of the columns if the file has no header."""
    header: list[str]
    image: int
    """Index of the column that names images."""

    def settings(self, data: DataConfig) -> dict[str, Any]:
        """Return the keys of ``data`` that describe how to read it, without those at their default."""
        settings: dict[str, Any] = {"table": self.place}
        if self.delimiter != ",":
            settings["delimiter"] = self.delimiter
        if self.columns is not None:
            settings["columns"] = list(self.columns)
        if self.image or data.image_column:
            settings["image_column"] = self.header[self.image]
        return settings


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find the table whose rows name images of the folder."""
    if data.format is Format.TABLE and data.table is not None:
        if listing.find(data.table) is None:
            return None
        return Evidence(Strength.LIKELY, "attribute table", (f"{data.table} is there",), layer=LABELS)
    tables = _find_tables(listing, data)
    if len(tables) > 1:
        reasons = tuple(f"{table.place} names images" for table in tables)
        return Evidence(Strength.LIKELY, f"{len(tables)} attribute tables", reasons, layer=LABELS)
    if not tables:
        return None
    return _evidence(listing, data, tables[0])


def _evidence(listing: Listing, data: DataConfig, found: _Found) -> Evidence | None:
    """Read the whole table; return None if it has no labels."""
    settings = found.settings(data)
    reason = f"column {found.header[found.image]} of {found.place} names images"
    plain = Evidence(Strength.LIKELY, "attribute table", (reason,), layer=LABELS, settings=settings)
    try:
        rows = list(read_rows(listing.path(found.place), found.delimiter))[found.columns is None :]
    except AnnotationError:
        return plain  # reading reports the problem
    if any(len(cells) != len(found.header) for _, cells in rows):
        return plain
    guess = _guess(found, rows, data)
    if not guess.attributes:
        return None
    if guess.split:
        settings["split_column"] = guess.split
    if guess.skipped:
        settings["labels"] = {a: _rule(a, _column(found, rows, a)) for a in guess.attributes}
    count = len(guess.attributes)
    kind = suffix_of(found.place).removeprefix(".").upper()
    what = f"attribute table ({kind}), {counted(len(rows), 'row')}, {counted(count, 'attribute')}"
    reasons = (reason, f"{list_names(guess.attributes)} {'hold' if count > 1 else 'holds'} classes")
    return Evidence(Strength.LIKELY, what, reasons, layer=LABELS, settings=settings)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read the table and list the lots.

    Images are in the order of rows, then those for batch inference, sorted by name.

    Raises:
        AnnotationError: The table is missing, cannot be read, has rows of unequal length or names no existing image;
            or there are several tables.
        DataError: A column or a lot of ``data`` is missing.
    """
    if data.format is Format.TABLE and data.table is not None:
        return _Reader(listing, data, _place(listing, data.table)).dataset(name)
    tables = _find_tables(listing, data)
    if len(tables) > 1:
        raise AnnotationError(f"{listing.root}: {len(tables)} tables name its images: {_several(tables)}")
    if data.format is Format.TABLE or not tables:
        return _Reader(listing, data, tables[0].place if tables else _only_table(listing)).dataset(name)
    found = tables[0]
    data = data.model_copy(update={**found.settings(data), "columns": found.columns})
    return _Reader(listing, data, found.place, found).dataset(name)


def _several(tables: Sequence[_Found]) -> str:
    """Return the tables and what to do, for a message."""
    names = ", ".join(table.place for table in tables)
    splits = {split_of_file(table.place) for table in tables} - {Split.NONE}
    if len({tuple(table.header) for table in tables}) == 1 and len(splits) == len(tables):
        return f"{names}; join them into one with a column split"
    return f"{names}; set data.table to one"


def _place(listing: Listing, table: str) -> str:
    place = plain_name(table)
    if place is None:
        raise AnnotationError(f"{table}: is outside the data set; set data.table to a file below {listing.root}")
    return listing.find(place) or place


def _only_table(listing: Listing) -> str:
    """Return the table to read although it names no image, so that reading raises its own error."""
    known = [name for suffix in (*TABLE_SUFFIXES, ".xls") for name in listing.by_suffix.get(suffix, ())]
    if _USUAL_NAME in known or not known:
        return _USUAL_NAME
    if len(known) == 1:
        return known[0]
    raise AnnotationError(
        f"{listing.root}: no table below it names its images (tables: {examples(known, 5)}); set data.table"
    )


# Which table, and which column names images


class _ImageNames:
    """Checks whether a text may name an image: by its last part, in any case, with or without its suffix."""

    def __init__(self, listing: Listing) -> None:
        tails = [_tail(name) for name in listing.images]
        self.files = frozenset(tails)
        self.stems = frozenset(map(stem_of, tails))

    def is_file(self, cell: str) -> bool:
        return suffix_of(cell) in IMAGE_SUFFIXES and _tail(cell) in self.files

    def is_stem(self, cell: str) -> bool:
        return _tail(cell) in self.stems

    def column_of(self, width: int, rows: Sequence[Sequence[str]]) -> int | None:
        """Return the first column where at least half of the cells name images, with suffixes or as identifiers."""
        for test in (self.is_file, self.is_stem):
            for i in range(width):
                cells = [row[i] for row in rows]
                hits = sum(map(test, cells))
                alike = test == self.is_stem and len(set(cells)) * 2 <= len(cells)  # numbers of classes are not ids
                if hits and hits * 2 >= len(cells) and not alike:
                    return i
        return None


def _tail(name: str) -> str:
    tail = name.replace("\\", "/").rpartition("/")[2]
    if "%" in tail:
        tail = unquote(tail)
    return tail.lower() if tail.isascii() else unicodedata.normalize("NFC", tail).casefold()


def names_images(listing: Listing, cells: Iterable[str]) -> bool:
    """Return whether at least half of the cells name images of the folder."""
    return _ImageNames(listing).column_of(1, [(cell,) for cell in cells]) is not None


def _find_tables(listing: Listing, data: DataConfig) -> list[_Found]:
    """Return the tables that name images of the folder, among those that the configuration allows."""
    if data.table is not None:
        place = plain_name(data.table)
        known = listing.find(place) if place else None
        candidates = [known] if known else []
    else:
        candidates = [name for suffix in TABLE_SUFFIXES for name in listing.by_suffix.get(suffix, ())]
        candidates.sort(key=lambda name: (name.count("/"), name))
    if not candidates or not listing.images:
        return []
    images = _ImageNames(listing)
    looked = (_look_into(listing, place, data, images) for place in candidates[:_MOST_TABLES])
    found = sorted((table for table in looked if table), key=lambda table: table.place)
    return [table for table in found if _evidence(listing, data, table)] if len(found) > 1 else found


def _look_into(listing: Listing, place: str, data: DataConfig, images: _ImageNames) -> _Found | None:
    if data.table is None and suffix_of(place) == ".parquet":
        rows = [cells for _, cells in head_rows(listing.path(place), ",", lists=True)]
        if rows and holds_boxes(rows):  # boxes in a column of lists, which is not a label
            return None
    for delimiter in _delimiters(place, data):
        rows = [cells for _, cells in head_rows(listing.path(place), delimiter)]
        if not rows or len({len(cells) for cells in rows}) > 1:
            continue
        found = _headed(place, delimiter, rows, data, images)
        if found is not None:
            return found
    return None


def _delimiters(place: str, data: DataConfig) -> Sequence[str]:
    if data.delimiter != "," or not is_text_table(place):
        return (data.delimiter,)
    if suffix_of(place) == ".tsv":
        return ("\t",)
    return DELIMITERS if data.format is Format.AUTO else (",",)


def _headed(place: str, delimiter: str, rows: list[list[str]], data: DataConfig, images: _ImageNames) -> _Found | None:
    width = len(rows[0])
    if width < 2 and not data.labels:
        return None
    columns = data.columns
    has_header = columns is None and not any(map(images.is_file, rows[0]))
    if columns is None and has_header and (column := images.column_of(width, rows[1:])) is not None:
        by_stem = not any(images.is_file(row[column]) for row in rows[1:])
        has_header = not (by_stem and images.is_stem(rows[0][column]))
    body = rows[1:] if has_header else rows
    column = images.column_of(width, body)
    if column is None or (columns is not None and len(columns) != width):
        return None
    if columns is None and not has_header:
        columns = _made_up(column, body)
    header = list(columns or rows[0])
    if data.image_column is not None:
        if data.image_column not in header:
            return None
        column = header.index(data.image_column)
    if data.table is None and holds_boxes(rows):
        return None
    return _Found(place, delimiter, columns, header, column)


def _made_up(image: int, rows: list[list[str]]) -> tuple[str, ...]:
    """Return names for the columns of a table without a header."""
    width = len(rows[0])
    splits = [i for i in range(width) if i != image and _says_splits("", (row[i] for row in rows))][:1]
    others = [i for i in range(width) if i != image and i not in splits]
    names = {image: "image", **dict.fromkeys(splits, "split")}
    names |= {i: f"label_{n}" if len(others) > 1 else "label" for n, i in enumerate(others, start=1)}
    return tuple(names[i] for i in range(width))


# What the columns say


class _Guess(NamedTuple):
    attributes: tuple[str, ...]
    split: str | None
    skipped: dict[str, str]
    """Maps a column to the reason why it is not a label."""


def _column(found: _Found, rows: Sequence[_Line], column: str) -> list[str]:
    index = found.header.index(column)
    return [cells[index] for _, cells in rows]


def _guess(found: _Found, rows: Sequence[_Line], data: DataConfig) -> _Guess:
    """Find the label columns and the split column that the configuration does not set."""
    image = found.header[found.image]
    configured = {data.weights and data.weights.column, data.group_column, data.split_column}
    columns = {
        column: _column(found, rows, column)
        for column in dict.fromkeys(found.header)
        if column and column != image and column not in configured
    }
    split = data.split_column or split_column(columns)
    if split:
        columns.pop(split, None)
    if data.labels:
        return _Guess(tuple(data.labels), split, {})
    attributes, skipped = label_columns(columns)
    return _Guess(tuple(attributes), split, skipped)


def split_column(columns: dict[str, list[str]]) -> str | None:
    """Return the first column whose values are train, val or test."""
    return next((column for column, cells in columns.items() if _says_splits(column, cells)), None)


def _says_splits(column: str, cells: Iterable[str]) -> bool:
    words = {cell.casefold() for cell in set(cells) if not is_missing(cell)}
    if not words or not words <= SPLIT_WORDS.keys():
        return False
    splits = {SPLIT_WORDS[word] for word in words}
    return re.sub("[^a-z]", "", column.casefold()) in _SPLIT_NAMES or (Split.TRAIN in splits and len(splits) > 1)


def label_columns(columns: dict[str, list[str]]) -> tuple[list[str], dict[str, str]]:
    """Separate columns of classes from identifiers, measures and texts.

    Returns:
        Columns whose values are classes, and a mapping of the others to the reason.
    """
    reasons = {column: why_no_label(cells) for column, cells in columns.items()}
    return [c for c, reason in reasons.items() if not reason], {c: reason for c, reason in reasons.items() if reason}


def _rule(attribute: str, raws: list[str]) -> dict[str, Any]:
    names = LabelReader.by_values(attribute, raws).attribute.class_names
    return {"classes": {name: [name] for name in names}}


# Reading


class _Reader:
    def __init__(self, listing: Listing, data: DataConfig, place: str, found: _Found | None = None) -> None:
        if place not in listing.files:
            next(read_rows(listing.path(place), ","))  # raises an error that lists the existing tables
        self.listing = listing
        self.data = data
        self.place = place
        self.file = listing.path(place)
        self.prefix = f"{folder_of(place)}/".removeprefix("/")
        self.lots = self._find_lots()
        self.notes = note_unread_sheets(self.file, place)
        is_tsv = suffix_of(place) == ".tsv" and data.delimiter == ","
        rows = read_rows(self.file, "\t" if is_tsv else data.delimiter)
        first = None if data.columns is not None else next(rows, (1, []))
        self.header = list(data.columns or ()) if first is None else self._header(*first)
        lines = self._lines(rows)
        self.columns = self._used_columns(found, lines)
        image = self.header.index(data.image_column or self.header[0])
        self.rows = [Row(place, line, cells[image], tuple(cells[:image] + cells[image + 1 :])) for line, cells in lines]

    def _find_lots(self) -> tuple[str, ...] | None:
        """Return prefixes of the images to use."""
        if self.data.lots is None:
            return None
        below = [name for name in self.listing.files if name.startswith(self.prefix)]
        images = [name for name in below if name in self.listing.images]
        known = {top for name in images if (top := name[len(self.prefix) :].partition("/")[0]) != name}
        for lot in self.data.lots:
            if not any(name.startswith(f"{self.prefix}{lot.strip('/')}/") for name in below):
                place = self.listing.root / self.prefix
                raise DataError(f"data.lots: {place} has no folder {lot!r}; {suggest_name(lot, sorted(known))}")
        return tuple(f"{self.prefix}{lot.strip('/')}/" for lot in self.data.lots)

    def _header(self, line: int, header: list[str]) -> list[str]:
        where = f"{self.file}:{line}"
        if not header:
            raise AnnotationError(f"{where}: the table is empty; add a header and one row per image")
        twice = [column for column, n in collections.Counter(header).items() if n > 1 and column]
        if twice:
            raise AnnotationError(f"{where}: column {twice[0]!r} is duplicated; give each column its own name")
        if any(self.prefix + cell in self.listing.images for cell in header):
            raise AnnotationError(f"{where}: the first line names an image, no columns; name them with data.columns")
        if len(header) == 1 and not self.data.labels:
            raise AnnotationError(
                f"{where}: has one column, {header[0]!r}; set data.delimiter, or add columns of labels"
            )
        return header

    def _lines(self, rows: Iterable[_Line]) -> list[_Line]:
        lines = list(rows)
        for line, cells in lines:
            if len(cells) != len(self.header):
                raise AnnotationError(
                    f"{self.file}:{line}: has {len(cells)} values for {len(self.header)} columns; correct the row, or "
                    "set data.delimiter"
                )
        return lines

    def _known(self, column: str, setting: str) -> str:
        if column not in self.header:
            named = [c for c in self.header if c]
            raise DataError(f"{setting}: {self.file} has no column {column!r}; {suggest_name(column, named)}")
        return column

    def _used_columns(self, found: _Found | None, lines: list[_Line]) -> Columns:
        """Return the attributes' columns and the split column, and add a note on unused columns."""
        data = self.data
        image = data.image_column or self.header[0]
        if not image:
            raise AnnotationError(f"{self.file}:1: the first column has no name; set data.image_column")
        used = {self._known(image, "data.image_column")}
        for attribute, rule in data.labels.items():
            used.add(self._known(rule.column or attribute, f"data.labels.{attribute}"))
        for setting, extra in (
            ("weights.column", data.weights and data.weights.column),
            ("group_column", data.group_column),
            ("split_column", data.split_column),
        ):
            if extra:
                used.add(self._known(extra, f"data.{setting}"))
        split, skipped = data.split_column, dict[str, str]()
        if found is not None:
            guess = _guess(found, lines, data)
            split, skipped = guess.split, guess.skipped
            if split and not data.split_column:
                self.notes.append(f"Column {split} of {self.place} gives the splits.")
        if data.labels:
            attributes = {attribute: rule.column or attribute for attribute, rule in data.labels.items()}
            unused = [c for c in self.header if c and c not in used and c != split]
            if unused:
                self.notes.append(f"Columns of {self.place} that are not used: {list_names(unused)}.")
        else:
            attributes = {c: c for c in self.header if c and c not in used and c != split and c not in skipped}
            if skipped:
                shown = ", ".join(f"{column} ({reason})" for column, reason in skipped.items())
                self.notes.append(f"Columns of {self.place} that are not labels, left out: {shown}.")
        if not attributes:
            why = f" ({', '.join(f'{c}: {reason}' for c, reason in skipped.items())})" if skipped else ""
            raise AnnotationError(f"{self.file}:1: has no column of labels{why}; add one beside {image!r}")
        at = self.header.index(image)
        return Columns(tuple(self.header[:at] + self.header[at + 1 :]), attributes, split)

    def _bases(self) -> Bases:
        """Return the bases of names: the folder of the table, or the root; either may have a folder of images."""
        here, images = self.prefix, f"{self.prefix}images/"
        return ((here,), (images,), ("",), ("images/",)) if here else (("",), ("images/",))

    def dataset(self, name: str) -> Dataset:
        labelled = LabelledImages(self.listing, self.data, self.columns)
        labelled.notes = self.notes
        labelled.add(self.rows, self.prefix, self._bases(), self.lots or ("",))
        entries = labelled.entries
        if not entries and not labelled.assembly.findings:
            raise AnnotationError(f"{self.file}: has no row with an image; add rows, or change data.lots")
        if entries and not any(key in self.listing.files for key in entries):
            key, row = next(iter(entries.items()))
            raise AnnotationError(
                f"{self.file}:{row.line}: no image of the table exists, such as {self.listing.path(key)}; paths are "
                "relative to the table's folder: correct them, or set data.image_column"
            )
        within = self.lots
        if within is None:
            within = (self.prefix if any(key.startswith(self.prefix) for key in entries) else "",)
        return labelled.dataset(name, within, self.place)
