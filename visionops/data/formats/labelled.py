"""Assemble a data set of labels for readers of tables: rows that name images become images with labels.

Images that no row names are for batch inference.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import Assembly, ImageEntry, examples, fold_name
from visionops.data.formats.beside import find_masks, report_beside
from visionops.data.formats.names import Bases, NameIndex
from visionops.data.formats.rules import DROPPED, OUTSIDE, LabelReader, is_missing, number_of
from visionops.data.formats.splits import SPLIT_WORDS
from visionops.data.formats.urls import declared_path
from visionops.data.label_rules import WeightRule
from visionops.data.listing import Listing, folder_of, stem_of, suffix_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError
from visionops.suggestions import suggest_name

__all__ = ["Columns", "LabelledImages", "Row", "why_no_label"]

_MANY_VALUES = 20
"""Number of distinct values from which a column of few images is an identifier or a measure, not a label."""
_FEW_IMAGES = 5
_MANY_FRACTIONS = 10
_LONG_TEXT = 60


class Row(NamedTuple):
    """A row of a table."""

    place: str
    """File, relative to the root."""
    line: int
    image: str
    """Name of the image as written."""
    cells: tuple[str, ...]
    """Cells of all columns except the image's."""
    split: Split = Split.NONE

    @property
    def where(self) -> str:
        """Place of the row for findings."""
        return f"{self.place}:{self.line}"


class Columns(NamedTuple):
    """Roles of columns; each column is named as in `Row.cells`."""

    names: tuple[str, ...]
    """Names of the columns in `Row.cells`, in order."""
    attributes: Mapping[str, str]
    """Maps an attribute to its column."""
    split: str | None = None
    rules: Mapping[str, LabelReader] = {}
    """Maps an attribute to its reader, if the configuration has no rule for it."""


class LabelledImages:
    """A data set of labels under construction."""

    def __init__(self, listing: Listing, data: DataConfig, columns: Columns) -> None:
        self.listing = listing
        self.data = data
        self.columns = columns
        self.assembly = Assembly(listing)
        self.notes: list[str] = []
        self.entries: dict[str, Row] = {}
        """Maps an image key to its row."""
        self._contradicting: dict[str, None] = {}
        self._stems: dict[str, list[str]] | None = None

    def add(self, rows: Sequence[Row], prefix: str, bases: Bases, lots: tuple[str, ...]) -> None:
        """Find the image of each row of one table.

        Args:
            prefix: Folder that the names are relative to, as ``a/b/``, for missing images.
            bases: Folders that the names may be relative to.
            lots: Prefixes of the images to use.
        """
        named = [(row, name) for row, name in zip(rows, self.with_suffix(rows, bases), strict=True) if name is not None]
        entries = [ImageEntry(name, row.where) for row, name in named]
        skipped = 0
        for (row, _), found in zip(named, self.assembly.find_images(entries, bases), strict=True):
            if found is None:
                continue
            key = found if found in self.listing.files else prefix + found
            if key.startswith(lots):
                self._add(key, row)
            else:
                skipped += 1
        if skipped:
            message = f"{counted(skipped, 'row')} of {rows[0].place} left out: data.lots does not take the lot."
            self.notes.append(message)
        for key in self._contradicting:
            self.entries.pop(key, None)

    def _add(self, key: str, row: Row) -> None:
        self.assembly.claimed.add(key)
        known = self.entries.setdefault(key, row)
        if known is row:
            return
        earlier = f"line {known.line}" if known.place == row.place else known.where
        if self._used(known) == self._used(row):
            message = f"{row.image} is already in {earlier}, with the same labels; remove one"
            self.assembly.found(Code.DUPLICATE_ROW, row.where, message, (key,))
            return
        self._contradicting[key] = None  # it has a label, though an unknown one: it is not for batch inference
        pairs = zip(self._used_columns(), self._used(known), self._used(row), strict=True)
        unlike = ", ".join(f"{column} {a!r} and {b!r}" for column, a, b in pairs if a != b)
        message = f"contradicts {earlier} of the same image: {unlike}; left out: correct one, remove the other"
        self.assembly.found(Code.CONTRADICTING_ROW, row.where, message, (key,))

    def _used_columns(self) -> list[str]:
        weights = self.data.weights
        used = [*self.columns.attributes.values(), weights and weights.column, self.data.group_column]
        return [c for c in dict.fromkeys([*used, self.columns.split]) if c in self.columns.names]

    def _used(self, row: Row) -> list[str]:
        return [row.cells[self.columns.names.index(column)] for column in self._used_columns()]

    def with_suffix(self, rows: Sequence[Row], bases: Bases) -> list[str | None]:
        """Return the names of images; an identifier gives the image with that stem, None if several have it."""
        plain = {row.image: declared_path(row.image) for row in rows if suffix_of(row.image) not in IMAGE_SUFFIXES}
        ids = {name: safe for name, safe in plain.items() if safe and suffix_of(safe) not in IMAGE_SUFFIXES}
        if not ids:
            return [row.image for row in rows]
        stems = self._images_by_stem()
        matches = NameIndex(stems).match(list(ids.values()), bases)
        files = {name: stems[m.file] for name, m in zip(ids, matches, strict=True) if m.file}
        if any(len(rivals) > 1 for rivals in files.values()):
            masks = find_masks(self.listing)
            files = {name: [f for f in rivals if f not in masks] for name, rivals in files.items()}
        found = {name: rivals[0] for name, rivals in files.items() if len(rivals) == 1}
        if found:
            shown = examples((f"{name} is {file}" for name, file in found.items()), 2)
            self.notes.append(f"{counted(len(found), 'image')} found by the name without suffix ({shown}).")
        ambiguous = {name: rivals for name, rivals in files.items() if len(rivals) > 1}
        for row in rows:
            if rivals := ambiguous.get(row.image):
                what = " and ".join(map(repr, rivals[:3]))
                message = f"{row.image!r} matches {len(rivals)} images, {what}; write the suffix, too"
                self.assembly.found(Code.AMBIGUOUS_NAME, row.where, message, tuple(rivals))
                self.assembly.claimed.update(rivals)
        return [None if row.image in ambiguous else found.get(row.image, row.image) for row in rows]

    def _images_by_stem(self) -> dict[str, list[str]]:
        if self._stems is None:
            self._stems = {}
            for name in self.listing.images:
                self._stems.setdefault(stem_of(name), []).append(name)
        return self._stems

    def dataset(self, name: str, within: tuple[str, ...], place: str) -> Dataset:
        """Build the data set: images in the order of rows, then those for batch inference, sorted by name.

        Args:
            name: Name of the data set.
            within: Prefixes of the images that belong to it.
            place: Name of the table in notes.

        Raises:
            AnnotationError: A column does not match the configuration.
        """
        keys, rows = list(self.entries), list(self.entries.values())
        readers = [self._label_reader(attribute) for attribute in self.columns.attributes]
        class_ids = [self._class_ids(reader) for reader in readers]
        splits = self._splits()
        kept = [i for i in range(len(keys)) if all(ids[i] != DROPPED for ids in class_ids)]
        answered = [any(ids[i] >= 0 for ids in class_ids) and splits[i] is not Split.UNLABELLED for i in kept]
        if silent := answered.count(False):
            self.notes.append(f"{counted(silent, 'image')} without any known label: for batch inference.")
        unlabelled = self._without_row(within, place)
        weights, groups = self._weights(), self._groups()
        columns: dict[str, list[Any]] = {
            "key": [keys[i] for i in kept] + unlabelled,
            "split": [(splits[i] if known else Split.UNLABELLED).value for i, known in zip(kept, answered, strict=True)]
            + [Split.UNLABELLED.value] * len(unlabelled),
            "group": [groups[i] for i in kept] + [""] * len(unlabelled),
            "weight": [weights[i] for i in kept] + [1.0] * len(unlabelled),
        }
        files = self.listing.files
        columns["path"] = [f"{self.listing.root}/{key}" if key in files else "" for key in columns["key"]]
        columns["num_bytes"] = [files[key].num_bytes if key in files else -1 for key in columns["key"]]
        self._report_missing(keys, rows, set(columns["key"]))
        return Dataset.from_columns(
            name,
            (),
            columns,
            {},
            notes=[*self.notes, *self.assembly.loose_notes()],
            findings=self.assembly.findings,
            attributes=[reader.attribute for reader in readers],
            labels={
                reader.attribute.name: [
                    ids[i] if ids[i] >= 0 and known else None for i, known in zip(kept, answered, strict=True)
                ]
                + [None] * len(unlabelled)
                for reader, ids in zip(readers, class_ids, strict=True)
            },
        )

    def _report_missing(self, keys: list[str], rows: list[Row], kept: set[str]) -> None:
        for key, row in zip(keys, rows, strict=True):
            if key in kept and key not in self.listing.files:
                message = f"image {row.image}: the file is missing; add the file or remove the row"
                self.assembly.found(Code.MISSING_IMAGE, row.where, message, (key,))

    def _cells(self, column: str) -> list[str]:
        if column not in self.columns.names:  # the image's own column
            return list(self.entries)
        index = self.columns.names.index(column)
        return [row.cells[index] for row in self.entries.values()]

    def _label_reader(self, attribute: str) -> LabelReader:
        if attribute in self.data.labels:
            return LabelReader.by_rule(attribute, self.data.labels[attribute])
        if attribute in self.columns.rules:
            return self.columns.rules[attribute]
        reader = LabelReader.by_values(attribute, self._cells(self.columns.attributes[attribute]))
        count = len(reader.attribute.class_names)
        if count > max(_MANY_VALUES, len(self.entries) // 2):
            place = next(iter(self.entries.values())).place
            raise AnnotationError(
                f"{self.listing.path(place)}: column {attribute!r} has {count} values for {len(self.entries)} images, "
                "which are not classes; set the columns to learn, and their classes, under data.labels"
            )
        return reader

    def _class_ids(self, reader: LabelReader) -> list[int]:
        """Return class ids of all entries; a value outside the mapping becomes a finding, and its label is unknown."""
        attribute = reader.attribute.name
        column = self.columns.attributes[attribute]
        raws = self._cells(column)
        meaning = {raw: reader.class_id(raw) for raw in dict.fromkeys(raws)}
        outside: dict[str, list[str]] = {}
        dropped: collections.Counter[str] = collections.Counter()
        for key, raw in zip(self.entries, raws, strict=True):
            if meaning[raw] == OUTSIDE:
                outside.setdefault(raw, []).append(key)
            elif meaning[raw] == DROPPED:
                dropped[raw] += 1
        for raw, keys in outside.items():
            also = f" ({len(keys)} rows have it)" if len(keys) > 1 else ""
            message = f"column {column}: {reader.refusal(raw, meaning)}{also}"
            self.assembly.found(Code.UNKNOWN_LABEL, self.entries[keys[0]].where, message, tuple(keys))
        self.notes += reader.notes(raws, column)
        if dropped:
            values = ", ".join(f"{n} x {raw}" for raw, n in sorted(dropped.items()))
            self.notes.append(
                f"{counted(dropped.total(), 'image')} left out, as data.labels.{attribute}.drop says ({values})."
            )
        return [meaning[raw] for raw in raws]

    def _splits(self) -> list[Split]:
        """Return splits from the split column, else from the place of the table."""
        if self.columns.split is None:
            return [row.split for row in self.entries.values()]
        unknown: dict[str, list[str]] = {}
        splits = []
        for (key, row), cell in zip(self.entries.items(), self._cells(self.columns.split), strict=True):
            split = Split.NONE if is_missing(cell) else SPLIT_WORDS.get(cell.casefold())
            if split is None:
                unknown.setdefault(cell, []).append(key)
            splits.append(split or row.split)
        for cell, keys in unknown.items():
            message = (
                f"column {self.columns.split}: {cell!r} is not a split; {suggest_name(cell, SPLIT_WORDS)} "
                f"({counted(len(keys), 'row')} without a split)"
            )
            self.assembly.found(Code.UNKNOWN_LABEL, self.entries[keys[0]].where, message, tuple(keys))
        return splits

    def _weights(self) -> list[float]:
        rule = self.data.weights
        if rule is None:
            return [1.0] * len(self.entries)
        cells = zip(self.entries.values(), self._cells(rule.column), strict=True)
        return [self._weight(rule, row, cell) for row, cell in cells]

    def _weight(self, rule: WeightRule, row: Row, cell: str) -> float:
        try:
            number = float(cell)
            if not math.isfinite(number):
                raise ValueError  # noqa: TRY301 - one message for everything that is not a number
            return rule.values[min(rule.values, key=lambda value: (abs(value - number), value))]
        except ValueError as error:
            raise AnnotationError(
                f"{self.listing.path(row.place)}:{row.line}: column {rule.column}: {cell!r} is not a number, but "
                "data.weights needs one; correct it"
            ) from error

    def _groups(self) -> list[str]:
        column = self.data.group_column
        return self._cells(column) if column else [""] * len(self.entries)

    def _without_row(self, within: tuple[str, ...], place: str) -> list[str]:
        """Return images without a row that are not masks of others."""
        claimed = self.assembly.claimed
        findings = self.assembly.findings
        report_beside(self.listing, claimed, findings, within=within, orphans=False)
        masks = {image for finding in findings if finding.code is Code.MASK_IMAGE for image in finding.images}
        keys = [
            key for key in self.listing.images if key.startswith(within) and key not in claimed and key not in masks
        ]
        per_folder = collections.Counter(folder_of(key) for key in keys)
        for folder, count in per_folder.items():
            shown = folder.removeprefix(folder_of(place) + "/") if folder_of(place) else folder
            self.notes.append(
                f"{counted(count, 'image')} of {shown or '.'} without a row in {place}: for batch inference."
            )
        return keys


def why_no_label(raws: Iterable[str]) -> str:
    """Return why the values of a column are not classes to learn, for a note; "" if they may be."""
    counts = collections.Counter(raws)
    known = {raw: count for raw, count in counts.items() if not is_missing(raw)}
    values = set(map(fold_name, known))
    rows = sum(known.values())
    if len(values) < 2:
        return "one value" if values else "no value"
    if max(map(len, values)) > _LONG_TEXT:
        return "free text"
    many = f"{len(values):,} values in {counted(rows, 'row')}"
    if (len(values) == rows and rows > _FEW_IMAGES) or (
        len(values) > _MANY_VALUES and len(values) * _FEW_IMAGES > rows
    ):
        return many
    numbers = [number for value in values if (number := number_of(value)) is not None]
    if len(numbers) < len(values):
        return ""
    fractions = any(not number.is_integer() for number in numbers)
    is_measure = len(values) > (_MANY_FRACTIONS if fractions else _MANY_VALUES)
    return f"numbers, {many}" if is_measure else ""
