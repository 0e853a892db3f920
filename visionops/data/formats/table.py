"""Attribute tables: a CSV with a row an image and a column an attribute, and the images in folders beside it (lots).

Text is UTF-8, or what a byte-order mark says; fields may be quoted as in RFC 4180. Images that no row names are for
batch inference.
"""

from __future__ import annotations

import codecs
import collections
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from visionops.config import DataConfig, WeightRule
from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error, safe_name, walk_files
from visionops.data.findings import Code, Finding, counted
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.rules import DROPPED, OUTSIDE, LabelReader, list_names, suggest
from visionops.data.listing import Listing
from visionops.errors import AnnotationError, DataError
from visionops.inference.bundle import Task

__all__ = ["detect", "read", "read_table"]

_MANY_VALUES = 20
"""From how many values on a column with fewer than two images a value is taken for an identifier, not a label."""


class _Entry(NamedTuple):
    line: int
    cells: tuple[str, ...]
    """Of the used columns only."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find the table."""
    file = data.table or "attributes.csv"
    if file not in listing.files:
        return None
    return Evidence(Strength.LIKELY, "attribute table", (f"{file} is there",), task=Task.ATTRIBUTES)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read the table."""
    return read_table(listing.root, name, data)


def read_table(root: Path, name: str, data: DataConfig) -> Dataset:
    """Read the table and list the lots.

    Images are in order of the rows, then those for batch inference in order of their names. Image paths in the table
    are relative to its folder.

    Args:
        data: Its ``table`` and what belongs to it, ``lots``, ``labels`` and ``weights``.

    Raises:
        AnnotationError: The table is absent, is no text, has rows of unequal length or names no image that is there.
        DataError: A column or a lot of ``data`` is not there.
    """
    return _Reader(root, data).dataset(name)


class _Reader:
    def __init__(self, root: Path, data: DataConfig) -> None:
        place = safe_name(data.table or "attributes.csv")
        if place is None:
            raise AnnotationError(f"{data.table}: leads out of the data set; set data.table to a file below {root}")
        self.data = data
        self.file = root / place
        self.place = place
        self.prefix = f"{place.rpartition('/')[0]}/".removeprefix("/")
        self.files = {f.name: f for f in walk_files(root)}
        self.root = root
        self.lots = self._find_lots()
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        rows = _read_rows(self.file, data.delimiter)
        self.header = self._header(rows)
        self.used = self._used_columns()
        self.entries = self._entries(rows)

    def _found(self, code: Code, line: int, message: str, images: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding.of(code, f"{self.place}:{line}", message, images))

    def _find_lots(self) -> tuple[str, ...]:
        """Prefixes of the images to take."""
        if self.data.lots is None:
            return (self.prefix,)
        lots = {name[len(self.prefix) :].partition("/")[0] for name in self.files if self._is_candidate(name)}
        for lot in self.data.lots:
            if not any(name.startswith(f"{self.prefix}{lot.strip('/')}/") for name in self.files):
                raise DataError(
                    f"data.lots: {self.root / self.prefix} has no folder {lot!r}; {suggest(lot, sorted(lots))}"
                )
        return tuple(f"{self.prefix}{lot.strip('/')}/" for lot in self.data.lots)

    def _is_candidate(self, name: str) -> bool:
        return name.startswith(self.prefix) and "/" in name[len(self.prefix) :] and self.files[name].is_image

    def _header(self, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
        if self.data.columns is not None:
            return list(self.data.columns)
        line, header = next(rows, (1, []))
        where = f"{self.file}:{line}"
        if not header:
            raise AnnotationError(f"{where}: the table is empty; write a header and a row an image")
        twice = [column for column, n in collections.Counter(header).items() if n > 1 and column]
        if twice:
            raise AnnotationError(f"{where}: column {twice[0]!r} stands twice; give each column its own name")
        if any((file := self.files.get(self.prefix + cell)) and file.is_image for cell in header):
            raise AnnotationError(f"{where}: the first line names an image, no columns; name them with data.columns")
        if len(header) == 1 and not self.data.labels:
            raise AnnotationError(
                f"{where}: has one column, {header[0]!r}; set data.delimiter, or add columns of labels"
            )
        return header

    def _index(self, column: str, setting: str) -> int:
        if column not in self.header:
            named = [c for c in self.header if c]
            raise DataError(f"{setting}: {self.file} has no column {column!r}; {suggest(column, named)}")
        return self.header.index(column)

    def _used_columns(self) -> dict[str, int]:
        """Column to its index, the image's first; and a note of those that nobody asked for."""
        data = self.data
        image = data.image_column or self.header[0]
        if not image:
            raise AnnotationError(f"{self.file}:1: the first column has no name; set data.image_column")
        used = {image: self._index(image, "data.image_column")}
        for attribute, rule in data.labels.items():
            column = rule.column or attribute
            used[column] = self._index(column, f"data.labels.{attribute}")
        for setting, extra in (
            ("weights.column", data.weights and data.weights.column),
            ("group_column", data.group_column),
        ):
            if extra:
                used[extra] = self._index(extra, f"data.{setting}")
        if not data.labels:
            self.attributes = {c: c for c in self.header if c and c not in used}
            used |= {column: self.header.index(column) for column in self.attributes}
        else:
            self.attributes = {attribute: rule.column or attribute for attribute, rule in data.labels.items()}
            unused = [column for column in self.header if column and column not in used]
            if unused:
                self.notes.append(f"Columns of {self.place} that are not used: {list_names(unused)}.")
        if not self.attributes:
            raise AnnotationError(f"{self.file}:1: has no column of labels; add one beside {image!r}")
        return used

    def _entries(self, rows: Iterator[tuple[int, list[str]]]) -> dict[str, _Entry]:
        """Image key to what its row says."""
        entries: dict[str, _Entry] = {}
        contradicting: dict[str, None] = {}
        skipped = 0
        first, *others = self.used.values()
        for line, cells in rows:
            if len(cells) != len(self.header):
                raise AnnotationError(
                    f"{self.file}:{line}: has {len(cells)} values for {len(self.header)} columns; correct the row, or "
                    "set data.delimiter"
                )
            relative = safe_name(cells[first])
            if relative is None:
                message = f"{cells[first]!r} is no plain path below {self.prefix or 'the data set'}; correct it"
                self._found(Code.UNSAFE_NAME, line, message)
                continue
            key = self.prefix + relative
            if not key.startswith(self.lots):
                skipped += 1
                continue
            entry = _Entry(line, tuple(cells[i] for i in others))
            if key not in entries:
                entries[key] = entry
            elif entries[key].cells == entry.cells:
                message = f"{relative} stands in line {entries[key].line} already, with the same labels; remove one"
                self._found(Code.DUPLICATE_ROW, line, message, (key,))
            else:
                self._contradict(key, entries[key], entry)
                contradicting[key] = None
        if skipped:
            self.notes.append(f"{counted(skipped, 'row')} of {self.place} left out: data.lots does not take the lot.")
        for key in contradicting:
            del entries[key]
            self.files.pop(key, None)  # it has a label, though nobody knows which: it is not for batch inference
        if not entries and not self.findings:
            raise AnnotationError(f"{self.file}: has no row of an image; add rows, or change data.lots")
        if entries and not any(key in self.files for key in entries):
            key, entry = next(iter(entries.items()))
            raise AnnotationError(
                f"{self.file}:{entry.line}: no image of the table is there, such as {self.root / key}; paths are "
                "relative to the table's folder: correct them, or set data.image_column"
            )
        return entries

    def _contradict(self, key: str, first: _Entry, second: _Entry) -> None:
        columns = list(self.used)[1:]
        pairs = zip(columns, first.cells, second.cells, strict=True)
        unlike = ", ".join(f"{column} {a!r} and {b!r}" for column, a, b in pairs if a != b)
        message = f"contradicts line {first.line} of the same image: {unlike}; left out: correct one, remove the other"
        self._found(Code.CONTRADICTING_ROW, second.line, message, (key,))

    def dataset(self, name: str) -> Dataset:
        readers = {attribute: self._label_reader(attribute) for attribute in self.attributes}
        labels = {attribute: self._class_ids(reader) for attribute, reader in readers.items()}
        rows = [row for row in range(len(self.entries)) if all(ids[row] != DROPPED for ids in labels.values())]
        weights, groups = self._weights(), self._groups()
        keys = list(self.entries)
        answered = [any(ids[row] >= 0 for ids in labels.values()) for row in rows]
        if silent := answered.count(False):
            self.notes.append(f"{counted(silent, 'image')} without any known label: for batch inference.")
        unlabelled = self._without_row()
        columns: dict[str, list[Any]] = {
            "key": [keys[row] for row in rows] + unlabelled,
            "split": [(Split.NONE if known else Split.UNLABELLED).value for known in answered]
            + [Split.UNLABELLED.value] * len(unlabelled),
            "group": [groups[row] for row in rows] + [""] * len(unlabelled),
            "weight": [weights[row] for row in rows] + [1.0] * len(unlabelled),
        }
        columns["path"] = [f"{self.root}/{key}" if key in self.files else "" for key in columns["key"]]
        columns["num_bytes"] = [self.files[key].num_bytes if key in self.files else -1 for key in columns["key"]]
        return Dataset.from_columns(
            name,
            (),
            columns,
            {},
            notes=self.notes,
            findings=self.findings,
            attributes=[reader.attribute for reader in readers.values()],
            labels={
                attribute: [ids[row] if ids[row] >= 0 else None for row in rows] + [None] * len(unlabelled)
                for attribute, ids in labels.items()
            },
        )

    def _cells(self, column: str) -> list[str]:
        index = list(self.used).index(column) - 1
        if index < 0:
            return list(self.entries)
        return [entry.cells[index] for entry in self.entries.values()]

    def _label_reader(self, attribute: str) -> LabelReader:
        if attribute in self.data.labels:
            return LabelReader.by_rule(attribute, self.data.labels[attribute])
        reader = LabelReader.by_values(attribute, self._cells(attribute))
        count = len(reader.attribute.class_names)
        if count > max(_MANY_VALUES, len(self.entries) // 2):
            raise AnnotationError(
                f"{self.file}: column {attribute!r} has {count} values for {len(self.entries)} images, which are no "
                "classes; name the columns to learn, and their classes, under data.labels"
            )
        return reader

    def _class_ids(self, reader: LabelReader) -> list[int]:
        """Class ids of all entries; what is outside the mapping is a finding a value, and not known."""
        attribute = reader.attribute.name
        raws = self._cells(self.attributes[attribute])
        meaning = {raw: reader.class_id(raw) for raw in set(raws)}
        outside: dict[str, list[str]] = {}
        dropped: collections.Counter[str] = collections.Counter()
        for key, raw in zip(self.entries, raws, strict=True):
            if meaning[raw] == OUTSIDE:
                outside.setdefault(raw, []).append(key)
            elif meaning[raw] == DROPPED:
                dropped[raw] += 1
        for raw, keys in outside.items():
            also = f" ({len(keys)} rows have it)" if len(keys) > 1 else ""
            message = f"column {self.attributes[attribute]}: {reader.refusal(raw)}{also}"
            self._found(Code.UNKNOWN_LABEL, self.entries[keys[0]].line, message, tuple(keys))
        if dropped:
            values = ", ".join(f"{n} x {raw}" for raw, n in sorted(dropped.items()))
            self.notes.append(
                f"{counted(dropped.total(), 'image')} left out, as data.labels.{attribute}.drop says ({values})."
            )
        return [meaning[raw] for raw in raws]

    def _weights(self) -> list[float]:
        rule = self.data.weights
        if rule is None:
            return [1.0] * len(self.entries)
        cells = zip(self.entries.values(), self._cells(rule.column), strict=True)
        return [self._weight(rule, entry.line, cell) for entry, cell in cells]

    def _weight(self, rule: WeightRule, line: int, cell: str) -> float:
        try:
            number = float(cell)
            if not math.isfinite(number):
                raise ValueError  # noqa: TRY301 - one answer to all that is no number
            return rule.values[min(rule.values, key=lambda value: (abs(value - number), value))]
        except ValueError as error:
            raise AnnotationError(
                f"{self.file}:{line}: column {rule.column}: {cell!r} is no number, as data.weights needs; correct it"
            ) from error

    def _groups(self) -> list[str]:
        column = self.data.group_column
        return self._cells(column) if column else [""] * len(self.entries)

    def _without_row(self) -> list[str]:
        """Images of the lots that the table does not name."""
        keys = [
            key
            for key, file in self.files.items()
            if file.is_image and key.startswith(self.lots) and key not in self.entries
        ]
        per_folder = collections.Counter(key[len(self.prefix) :].rpartition("/")[0] or "." for key in keys)
        for folder, count in per_folder.items():
            self.notes.append(
                f"{counted(count, 'image')} of {folder} without a row in {self.place}: for batch inference."
            )
        return keys


def _read_rows(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number, counted from 1, and stripped cells of each row that is not blank."""
    stream = io.StringIO(_read_text(file), newline="")
    if delimiter == "whitespace":
        for number, line in enumerate(stream, start=1):
            if cells := line.split():
                yield number, cells
        return
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    while True:
        line_before = reader.line_num
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise AnnotationError(
                f"{file}:{line_before + 1}: not a row of a CSV ({error}); correct its quotes, or set data.delimiter"
            ) from error
        if row is None:
            return
        if any(row):
            yield line_before + 1, [cell.strip() for cell in row]


def _read_text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        others = sorted(path.name for path in file.parent.glob("*.[ct]s[v]")) if file.parent.is_dir() else []
        raise AnnotationError(f"{file}: not found; set data.table; there are: {list_names(others)}") from error
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({describe_os_error(error)})") from error
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    mend = "save the table as UTF-8"
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = "not UTF-16, as its first bytes say" if is_utf16 else f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise AnnotationError(f"{file}:{line}: {what}; {mend}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise AnnotationError(f"{file}:{line}: holds zero bytes, as UTF-16 without a byte-order mark does; {mend}")
    return text
