"""Assemble a data set of boxes, for all readers: match images by name, merge class names, collect columns."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.data.files import file_header
from visionops.data.findings import Code, Finding, counted
from visionops.data.formats.beside import report_beside
from visionops.data.formats.names import EXACT_BASES, Bases, Level, Match, NameIndex
from visionops.data.formats.urls import declared_path, find_declared
from visionops.data.listing import Listing, folder_of
from visionops.errors import ImageError

__all__ = ["DROPPED", "Assembly", "ClassNames", "ImageEntry", "examples", "fold_name"]

DROPPED = -1
"""Marks an image that is left out, in place of a row; a finding gives the reason."""


class ImageEntry(NamedTuple):
    """An image in an annotation file."""

    name: str
    """Name as written in the file."""
    where: str
    """Place of the entry for messages: "annotations.json: image 7"."""
    split: Split = Split.NONE
    width: int = 0
    """Width in pixels after EXIF rotation; 0 if not declared."""
    height: int = 0


def fold_name(name: str) -> str:
    """Return a key that is equal for class names that differ only in case, spaces and Unicode normal form."""
    return "".join(unicodedata.normalize("NFC", name).casefold().split())


def examples(names: Iterable[str], most: int = 3) -> str:
    """Return a list for messages: ``a.jpg, b.jpg, c.jpg, …``."""
    known = list(names)
    return ", ".join(known[:most]) + (", …" if len(known) > most else "")


class ClassNames:
    """Class names in order of appearance. Names that `fold_name` makes equal are one class, with the first spelling."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.notes: list[str] = []
        self._ids: dict[str, int] = {}
        self._spellings: set[str] = set()

    def id_of(self, name: str, place: str = "") -> int:
        """Return the id of a class, new or known; add a note if two spellings become one class.

        Args:
            place: Name of the annotation file in the note.
        """
        folded = fold_name(name)
        if folded not in self._ids:
            self._ids[folded] = len(self.names)
            self.names.append(name)
            self._spellings.add(name)
        known = self.names[self._ids[folded]]
        if name not in self._spellings:
            self._spellings.add(name)
            self.notes.append(f"{place}{': ' if place else ''}class {name!r} is merged with {known!r}.")
        return self._ids[folded]


class Assembly:
    """A data set of boxes under construction."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.index = NameIndex(listing.files)
        self.classes = ClassNames()
        self.keys: list[str] = []
        self.widths: list[int] = []
        self.heights: list[int] = []
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.missing = "the file is missing; add the file or remove the entry"
        """Message in findings for an image without a file."""
        self.claimed: set[str] = set()
        """Image files that an annotation names, used or not: they are not orphans."""
        self._splits: list[Split] = []
        self._row_of: dict[str, int] = {}
        self._homes: dict[str, str] = {}
        """Maps the key of a missing image to the folder where it should be."""
        self._plain: dict[int, bool] = {}
        self._loose: dict[Level, list[str]] = {}
        self._boxes: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float64]]] = []
        self._single: list[tuple[int, int, float, float, float, float]] = []
        self._source_ids: list[str] = []
        self._single_ids: list[str] = []

    def found(self, code: Code, where: str, message: str, images: tuple[str, ...] = ()) -> None:
        """Add a finding with the default severity of its code."""
        self.findings.append(Finding.of(code, where, message, images))

    def reserve(self, declared: Iterable[str], bases: Bases = EXACT_BASES) -> None:
        """Reserve the images with these names, so that other annotation files cannot match them (`NameIndex.reserve`).

        Args:
            declared: Names as written.
            bases: Folders that they may be relative to.
        """
        names = list(declared)
        self.index.reserve((plain for name in names if (plain := declared_path(name))), bases)

    def add_images(self, entries: Sequence[ImageEntry], bases: Bases = EXACT_BASES) -> list[int]:
        """Add the images of one annotation file.

        A name that points outside the data set or matches several files is an error, and its image is left out. A
        missing file is an error, and its image stays without a path. A file that is named twice is one image.

        Args:
            bases: Folders that the names may be relative to.

        Returns:
            Row of each entry, or `DROPPED`.
        """
        found = list(self._matches(entries, bases))
        home = self.home(bases) if any(match.file is None for _, _, match in found) else ""
        return [DROPPED if name is None else self.add_match(entry, name, match, home) for entry, name, match in found]

    def home(self, bases: Bases) -> str:
        """Return the best prefix below which there are images; ``""`` if there is none."""
        folders = self._image_folders
        return next((base for rank in bases for base in rank if base.rstrip("/") in folders), "")

    @functools.cached_property
    def _image_folders(self) -> frozenset[str]:
        return frozenset(map(folder_of, self.listing.images))

    def find_images(self, entries: Sequence[ImageEntry], bases: Bases = EXACT_BASES) -> list[str | None]:
        """Find the file of each entry without adding an image, for readers that first compare the rows of an image.

        Args:
            bases: Folders that the names may be relative to.

        Returns:
            For each entry the file, or the declared name if there is none; None if a finding reports that it cannot
            be used.
        """
        keys: list[str | None] = []
        for entry, name, match in self._matches(entries, bases):
            if name is not None and match.rivals:
                self._refuse(entry, match)
            elif name is not None:
                self._count_loose(entry, match)
            keys.append(None if name is None or match.rivals else match.file or name)
        return keys

    def _matches(self, entries: Sequence[ImageEntry], bases: Bases) -> Iterator[tuple[ImageEntry, str | None, Match]]:
        """Yield each entry with its plain name and its match; the name is None if it points outside the data set."""
        plain = [declared_path(entry.name) for entry in entries]
        usable = [name for name in plain if name is not None]
        matches = iter(find_declared(self.index, (entry.name for entry in entries), usable, bases))
        for entry, name in zip(entries, plain, strict=True):
            if name is None:
                message = f"file name {entry.name!r} is not a plain path inside the data set; correct it"
                self.found(Code.UNSAFE_NAME, entry.where, message)
                yield entry, None, Match(None)
                continue
            match = next(matches)
            if "\\" in entry.name and match.file and match.level is Level.EXACT:
                match = match._replace(level=Level.SLASHES)
            yield entry, name, match

    def claim(self, declared: str, bases: Bases = EXACT_BASES) -> None:
        """Record that an annotation names a file, though its image is left out."""
        name = declared_path(declared)
        if name is not None:
            found = find_declared(self.index, [declared], [name], bases)
            self.claimed.update(match.file for match in found if match.file)

    def add_match(self, entry: ImageEntry, name: str, match: Match, home: str = "") -> int:
        """Add an image whose file has been searched; otherwise as `add_images`.

        Args:
            name: Name of the image in notes and findings, and its key if there is no file.
            home: Folder where the image should be, as `home` returns it: part of the key if an image with the same
                name is missing elsewhere, too.
        """
        if match.rivals:
            return self._refuse(entry, match)
        key = match.file or name
        if match.file is None and self._homes.setdefault(key, home) != home:
            key = home + name
        if key in self._row_of:
            row = self._row_of[key]
            self._report_twice(entry, row, key)
            return row
        if match.file is None:
            self.found(Code.MISSING_IMAGE, entry.where, f"image {name}: {self.missing}", (key,))
        self._count_loose(entry, match)
        return self.add_file(key, entry)

    def _count_loose(self, entry: ImageEntry, match: Match) -> None:
        if match.level and match.file is not None:  # not exact
            self._loose.setdefault(match.level, []).append(f"{entry.name} is {match.file}")

    def add_absent(self, entry: ImageEntry) -> int:
        """Add an image without a file, for which the reader adds its own finding; return the row."""
        if entry.name in self._row_of:
            self._report_twice(entry, self._row_of[entry.name], entry.name)
            return self._row_of[entry.name]
        return self.add_file(entry.name, entry)

    def add_file(self, key: str, entry: ImageEntry) -> int:
        """Add an image by the name of its file, which may be missing; return the row."""
        row = self._row_of[key] = len(self.keys)
        self.claimed.add(key)
        self.keys.append(key)
        self._splits.append(entry.split)
        self.widths.append(entry.width)
        self.heights.append(entry.height)
        return row

    def _refuse(self, entry: ImageEntry, match: Match) -> int:
        what = " and ".join(map(repr, match.rivals[:3]))
        if match.shared:
            message = f"{what} all match one file by {match.level.difference}; correct the names"
        else:
            self.claimed.update(match.rivals)
            message = (
                f"file name {entry.name!r} matches {len(match.rivals)} files, {what}; rename or remove all but one"
            )
        self.found(Code.AMBIGUOUS_NAME, entry.where, message, match.rivals)
        return DROPPED

    def _report_twice(self, entry: ImageEntry, row: int, key: str) -> None:
        first, second = self._splits[row], entry.split
        if first is not second:
            known = [split.value or "no split" for split in (first, second)]
            message = f"{key} is in {known[0]} and in {known[1]}; the first is kept; list each image once"
        else:
            message = f"file name {entry.name!r} is listed twice; its boxes are merged; list each file once"
        self.found(Code.DUPLICATE_NAME, entry.where, message, (key,))

    def size_of(self, row: int) -> tuple[int, int]:
        """Return width and height of an image, in pixels after EXIF rotation: as declared, else from its header.

        Returns ``(0, 0)`` if neither is known.
        """
        if not (self.widths[row] and self.heights[row]) and self.keys[row] in self.listing.files:
            try:
                header = file_header(self.listing.path(self.keys[row]), self.keys[row])
                self.widths[row], self.heights[row] = header.width, header.height
                self._plain[row] = header.is_plain
            except ImageError:
                pass  # validation decodes every image and reports the problem
        return self.widths[row], self.heights[row]

    def add_boxes(
        self,
        rows: npt.NDArray[np.int64],
        class_ids: npt.NDArray[np.int32],
        xyxy: npt.NDArray[np.float64],
        source_ids: list[str],
    ) -> None:
        """Add boxes in columns: (M,), (M,), float64 (M, 4) in pixels, (M,)."""
        self._boxes.append((rows, class_ids, xyxy))
        self._source_ids += source_ids

    def add_box(self, row: int, class_name: str, xyxy: Sequence[float], where: str) -> None:
        """Add one box, in pixels; add a finding instead if it is not finite or has a negative size.

        Boxes of an image left out (`DROPPED`) are ignored.
        """
        x1, y1, x2, y2 = xyxy
        if row == DROPPED:
            return
        if not np.isfinite(xyxy).all() or x2 < x1 or y2 < y1:
            shown = ", ".join(f"{value:g}" for value in xyxy)
            message = f"box ({shown}) is not finite or has a negative size; redraw or remove it"
            self.found(Code.BAD_BOX, where, message, (self.keys[row],))
            return
        self._single.append((row, self.classes.id_of(class_name, where), x1, y1, x2, y2))
        self._single_ids.append(where)

    def dataset(
        self,
        name: str,
        *,
        sort_classes: bool = False,
        labels: Iterable[str] = (),
        within: Sequence[str] = ("",),
        leave_out: Collection[int] = (),
    ) -> Dataset:
        """Build the data set, with a finding for each kind of file that was not read.

        Args:
            name: Name of the data set.
            sort_classes: Sort classes by name, for formats that do not order them.
            labels: Label files without an image.
            within: Prefixes of the files that belong to the data set.
            leave_out: Rows of images to leave out; the reader adds findings for them.
        """
        report_beside(self.listing, self.claimed, self.findings, labels=labels, within=within)
        self.notes += self.loose_notes()
        table = np.array(self._single, dtype=np.float64).reshape(-1, 6)
        self.add_boxes(table[:, 0].astype(np.int64), table[:, 1].astype(np.int32), table[:, 2:], self._single_ids)
        rows, class_ids, xyxy = (np.concatenate(part) for part in zip(*self._boxes, strict=True))
        names = self.classes.names
        if sort_classes:
            order = sorted(range(len(names)), key=lambda i: names[i])
            new_ids = np.empty(len(names), np.int32)
            new_ids[order] = np.arange(len(names))
            names, class_ids = [names[i] for i in order], new_ids[class_ids]
        corners = {c: np.ascontiguousarray(xyxy[:, i]) for i, c in enumerate(("x1", "y1", "x2", "y2"))}
        root = f"{self.listing.path('')}/".replace("//", "/")  # text: one Path per image would cost more than the rest
        files = [self.listing.files.get(key) for key in self.keys]
        images = {
            "key": self.keys,
            "path": [f"{root}{key}" if file else "" for key, file in zip(self.keys, files, strict=True)],
            "num_bytes": [file.num_bytes if file else -1 for file in files],
            "width": self.widths,
            "height": self.heights,
            "split": self._splits,
            "plain": [self._plain.get(row) for row in range(len(self.keys))],
        }
        boxes = {"image": rows, "class_id": class_ids, **corners, "source_id": self._source_ids}
        notes = [*self.notes, *self.classes.notes]
        dataset = Dataset.from_columns(name, names, images, boxes, notes, self.findings)
        return dataset.take([row for row in range(len(self.keys)) if row not in leave_out]) if leave_out else dataset

    def loose_notes(self) -> list[str]:
        """Return a note for each kind of difference by which images were found despite an inexact name."""
        return [
            f"{counted(len(pairs), 'image')} found by less than the exact name, despite a difference in "
            f"{level.difference} ({examples(pairs, 2)})."
            for level, pairs in sorted(self._loose.items())
        ]
