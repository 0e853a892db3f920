"""Read labelme: one JSON file per image, beside it or in another folder. X-AnyLabeling writes the same format.

Coordinates are continuous, in pixels from 0. A rectangle is two opposite corners in any order; a circle is its centre
and a point on its edge; a mask is the first and the last pixel of its box, both included.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples, fold_name
from visionops.data.formats.names import Level, Match, resolve_name
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.shapes import NO_BOX, Box, ShapeCounts, around, bounds, points_of, printable
from visionops.data.formats.splits import split_of_folders
from visionops.data.formats.voc_places import Partner, Partners
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_SAMPLED = 24
_HEAD_BYTES = 16_384
_MAX_INT32 = 2**31 - 1
_KEYS = (b'"shapes"', b'"imagePath"', b'"imageData"')
_IMAGE_DATA = re.compile(rb'"imageData"\s*:\s*"')
_CLASS_FILES = ("labels.txt", "classes.txt")
_NO_CLASSES = frozenset({"__ignore__", "_background_"})
"""Lines of labelme's ``labels.txt`` that are not classes, and labels of shapes that are not objects."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find JSON files with ``shapes`` and ``imagePath`` in a sample."""
    del data
    candidates = listing.by_suffix.get(".json", [])
    sample = candidates[:: max(1, len(candidates) // _SAMPLED)]
    files = [name for name in sample if _is_labelme_file(listing, name)]
    if not files:
        return None
    beside = folder_of(files[0]) in {folder_of(name) for name in listing.images}
    what = f"labelme{' beside the images' if beside else ''}, {counted(len(candidates), 'file')}"
    return Evidence(Strength.SURE, what, tuple(f"{name} has shapes and imagePath" for name in files[:2]))


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all labelme files.

    The image of a file is the one at ``imagePath``, relative to the file's folder, else the one with the file's own
    name. Folders named after splits give the splits. Classes are in the order of ``labels.txt`` or ``classes.txt`` at
    the root, else sorted.

    Raises:
        AnnotationError: There is no such file, a file is malformed, or there are flags but no shapes.
    """
    del data
    files, others = _parse_all(listing)
    if not files:
        known = examples(listing.by_suffix.get(".json", ())) or "none"
        raise AnnotationError(
            f"{listing.root}: no JSON file below it has labelme's shapes and imagePath (JSON files: {known}); "
            "set data.source.path or data.format"
        )
    if not any(file.shapes for file in files) and any(file.flags for file in files):
        raise AnnotationError(
            f"{listing.path(files[0].name)}: the labelme files have flags (classes of whole images) and no shapes; "
            "sort the images into a folder per class and set data.format: folders, or draw shapes"
        )
    reader = _Reader(listing, files)
    if others:
        count = counted(len(others), "JSON file")
        reader.assembly.notes.append(f"{count} without labelme annotations left out ({examples(others)}).")
    return reader.dataset(name)


class _File(NamedTuple):
    """Content of one JSON file."""

    name: str
    declared: str
    """Its ``imagePath``, or ``""``."""
    size: tuple[int, int]
    shapes: list[_Shape | None]
    """Shapes; None for a value that is not a shape."""
    flags: bool
    """Whether it has flags of the whole image."""
    embedded: bool
    """Whether it holds the bytes of its image."""


class _Shape(NamedTuple):
    """The needed parts of a shape: 100,000 files are in memory at once."""

    label: str
    kind: str
    box: Box | None
    """Bounding box; None if the kind has none."""
    group: Any
    has_attributes: bool


class _Object(NamedTuple):
    label: str
    kind: str
    box: Box
    where: str
    group: Any = None


def _is_labelme(raw: Any) -> bool:
    """Return whether a parsed JSON file is from labelme, even if it is damaged."""
    if not isinstance(raw, dict) or "annotations" in raw:
        return False
    return ("shapes" in raw) + ("imagePath" in raw) + ("imageData" in raw) >= 2


def _is_labelme_file(listing: Listing, name: str) -> bool:
    try:
        with listing.path(name).open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        # Files of other formats are large; a labelme file may be large because it holds its image.
        return any(key in head for key in _KEYS) and _is_labelme(listing.read_json(name, cut=_without_image))
    except (AnnotationError, OSError, ValueError):
        return False


def _without_image(data: bytes) -> bytes:
    """Remove the encoded image from a file, unless it has escapes.

    In valid JSON the pattern occurs only at a key: a quote within a text has a backslash before it.
    """
    match = _IMAGE_DATA.search(data)
    if match is None:
        return data
    end = data.find(b'"', match.end())
    if end < match.end() + 2 or data[end - 1 : end] == b"\\":
        return data
    return data[: match.end() + 1] + data[end:]


def _parse_all(listing: Listing) -> tuple[list[_File], list[str]]:
    """Return the labelme files, and the names of the other JSON files.

    Raises:
        AnnotationError: A file is malformed.
    """
    files: list[_File] = []
    others: list[str] = []
    broken: list[tuple[str, AnnotationError]] = []
    for name in listing.by_suffix.get(".json", ()):
        try:
            raw = listing.read_json(name, cut=_without_image)
        except AnnotationError as error:
            broken.append((name, error))
            continue
        if _is_labelme(raw):
            files.append(_file(listing, name, raw))
        else:
            others.append(name)
    places = {folder_of(file.name) for file in files}
    for name, problem in broken:
        if not files or folder_of(name) in places:
            raise problem
        others.append(name)
    return files, others


def _file(listing: Listing, name: str, raw: dict[str, Any]) -> _File:
    shapes = raw.get("shapes")
    if not isinstance(shapes, list):
        raise AnnotationError(
            f'{listing.path(name)}: "shapes" must be a list; open the image in labelme and save it again'
        )
    declared = raw.get("imagePath")
    flags = raw.get("flags")
    return _File(
        name,
        declared.strip() if isinstance(declared, str) else "",
        (_size(raw.get("imageWidth")), _size(raw.get("imageHeight"))),
        [_shape(shape) for shape in shapes],
        isinstance(flags, dict) and bool(flags),
        isinstance(raw.get("imageData"), str) and bool(raw["imageData"]),
    )


def _shape(raw: Any) -> _Shape | None:
    if not isinstance(raw, dict):
        return None
    kind = raw.get("shape_type")
    kind = kind if isinstance(kind, str) and kind else "polygon"  # labelme before version 3 has no other shape
    box = _box(kind, points_of(raw.get("points")))
    return _Shape(_label(raw.get("label")), kind, box, raw.get("group_id"), bool(raw.get("attributes")))


def _size(value: Any) -> int:
    """Return a number of pixels; 0 if it is not a number: then the image header has it."""
    return int(value) if type(value) in (int, float) and 0 < value <= _MAX_INT32 and value == int(value) else 0


class _Reader:
    """Joins all files into one data set."""

    def __init__(self, listing: Listing, files: list[_File]) -> None:
        self.listing = listing
        self.files = files
        self.assembly = Assembly(listing)
        self.tally = ShapeCounts()
        self.ignored: Counter[str] = Counter()
        self.attributes = 0
        self.joined = 0

    def dataset(self, name: str) -> Dataset:
        assembly = self.assembly
        rows = self._add_images()
        found: list[tuple[int, _Object]] = []
        bare: dict[int, bool] = {}
        for file, row in zip(self.files, rows, strict=True):
            objects, skipped = self._objects(file)
            found += [(row, item) for item in objects]
            if row != DROPPED:
                bare[row] = bare.get(row, True) and skipped and not objects
        self._order_classes([item.label for _, item in found])
        for row, item in found:
            assembly.add_box(row, item.label, item.box, item.where)
        hidden = {row for row, is_bare in bare.items() if is_bare}
        self.tally.report_bare(assembly, sorted(assembly.keys[row] for row in hidden))
        self._note()
        return assembly.dataset(name, leave_out=hidden)

    def _add_images(self) -> list[int]:
        """Return the row of each file, or `DROPPED`."""
        assembly, places = self.assembly, self._places()
        splits = [
            split_of_folders(file.name) or split_of_folders(place.match.file or "")
            for file, place in zip(self.files, places, strict=True)
        ]
        if len(set(splits) - {Split.NONE}) < 2:  # a single word names the origin of the folder, not a split
            splits = [Split.NONE] * len(splits)
        rows = []
        for file, place, split in zip(self.files, places, splits, strict=True):
            shown = printable(file.name)
            if place.is_unsafe:
                message = f"imagePath {place.name!r} is not a plain path inside the data set; correct it"
                assembly.found(Code.UNSAFE_NAME, shown, message)
                assembly.claimed.update([place.match.file] if place.match.file else ())
                rows.append(DROPPED)
                continue
            entry = ImageEntry(place.name, shown, split, *file.size)
            if file.embedded and place.match.file is None and not place.match.rivals:
                message = "the file is missing, and only imageData is in the JSON; write it to a file, or add the file"
                assembly.found(Code.MISSING_IMAGE, shown, f"image {place.name}: {message}", (place.name,))
                rows.append(assembly.add_absent(entry))
                continue
            if place.match.level is Level.SLASHES:  # the note shows the backslashes, which `place.name` has lost
                entry = entry._replace(name=printable(file.declared))
            row = assembly.add_match(entry, place.name, place.match)
            if row != DROPPED and not all(file.size):
                assembly.size_of(row)
            rows.append(row)
        return rows

    def _places(self) -> list[Partner]:
        """Return the image of each file."""
        inside = [resolve_name(folder_of(file.name), file.declared) if file.declared else "" for file in self.files]
        uncertain = self._uncertain(inside)
        hints = [(self.files[i].name, self._hint(i, inside[i], is_there)) for i, is_there in uncertain.items()]
        own = dict(zip(uncertain, Partners(self.listing).find(hints), strict=True))
        places: list[Partner] = []
        stale: list[str] = []
        foreign: list[str] = []
        for i, (file, path) in enumerate(zip(self.files, inside, strict=True)):
            partner = own.get(i, Partner("", Match(None)))
            names = f"{printable(file.name)} names {file.declared}"
            if partner.match.file or partner.match.rivals:
                if file.declared and (path is None or _tail(partner.match.file or "") != _tail(file.declared)):
                    stale.append(names)
                places.append(partner)
            elif path and uncertain.get(i, True):
                level = Level.SLASHES if "\\" in file.declared else Level.EXACT
                places.append(Partner(path, Match(path, level)))
                if _tail(stem_of(path)) != _tail(stem_of(file.name)):
                    foreign.append(names)
            else:
                name = file.declared if path is None else path or partner.name
                places.append(Partner(name, partner.match, is_unsafe=path is None))
        self._note_places(stale, foreign)
        return places

    def _uncertain(self, inside: Sequence[str | None]) -> dict[int, bool]:
        """Return files whose own name is tried first, and whether there is an image at their ``imagePath``.

        Renamed pairs keep the old path: an image that several files name belongs to the one with the same name.
        """
        images = self.listing.images
        claims = Counter(inside)
        owned = {stem_of(file.name) for file in self.files}
        uncertain: dict[int, bool] = {}
        for i, (file, path) in enumerate(zip(self.files, inside, strict=True)):
            if path not in images:
                uncertain[i] = False
            elif path and claims[path] > 1 and stem_of(path) != stem_of(file.name) and stem_of(path) in owned:
                uncertain[i] = True
        return uncertain

    def _hint(self, i: int, path: str | None, is_there: bool) -> str:
        """Return a possible name of an image, for a file whose ``imagePath`` is missing."""
        if path is None or is_there:
            return ""
        declared = self.files[i].declared.replace("\\", "/")
        while declared.startswith(("../", "./")):
            declared = declared.partition("/")[2].lstrip("/")
        return declared

    def _note_places(self, stale: list[str], foreign: list[str]) -> None:
        if stale:
            count = counted(len(stale), "file names", "files name")
            self.assembly.notes.append(
                f"{count} an image in imagePath that is missing or belongs to another file "
                f"({examples(map(_shown, stale), 2)}): "
                "its own name is used."
            )
        if foreign:
            count = counted(len(foreign), "file is", "files are")
            self.assembly.notes.append(
                f"{count} not named like the image ({examples(map(_shown, foreign), 2)}): imagePath is used."
            )

    def _objects(self, file: _File) -> tuple[list[_Object], bool]:
        """Return the objects of a file, and whether a shape without a box was left out."""
        found: list[_Object] = []
        skipped = False
        shown = printable(file.name)
        for index, shape in enumerate(file.shapes, start=1):
            where = f"{shown}: shape {index}"
            if shape is None:
                self.assembly.found(Code.BAD_BOX, where, "must be an object with label and points; remove it")
                continue
            label, kind, box, group, has_attributes = shape
            if label in _NO_CLASSES:
                self.ignored[label] += 1
                continue
            if box is None:
                self.tally.left_out[printable(kind)[:30]] += 1
                skipped = True
                continue
            if not label:
                self.assembly.found(Code.UNKNOWN_CATEGORY, where, "has no label; write one in labelme, or remove it")
                skipped = True
                continue
            self.attributes += has_attributes
            if kind != "rectangle":
                self.tally.bounded[kind] += 1
            found.append(_Object(label, kind, box, where, group))
        return self._join(found), skipped

    def _join(self, objects: list[_Object]) -> list[_Object]:
        """Merge outlines that share label and group: labelme exports an object in several parts like this."""
        joined: dict[Any, _Object] = {}
        for i, item in enumerate(objects):
            is_part = type(item.group) is int and item.kind in ("polygon", "mask", "circle")
            key = (item.label, item.group) if is_part else i
            if key not in joined:
                joined[key] = item
                continue
            self.joined += 1
            first = joined[key]
            corners = [first.box[:2], first.box[2:], item.box[:2], item.box[2:]]
            joined[key] = first._replace(box=bounds(corners))
        return list(joined.values())

    def _order_classes(self, labels: Sequence[str]) -> None:
        """Set the ids of classes: in the order of a list at the root, and sorted for the rest."""
        spellings: dict[str, str] = {}
        for label in labels:
            spellings.setdefault(fold_name(label), label)
        for name in _CLASS_FILES:
            file = self.listing.find(name)
            listed = _listed(self.listing, file) if file else []
            if listed and not spellings.keys().isdisjoint(map(fold_name, listed)):
                for label in listed:
                    self.assembly.classes.id_of(label, file or "")
                break
            if listed:
                self.assembly.notes.append(f"{file} lists none of the labels and is ignored.")
        for label in sorted(spellings.values()):
            self.assembly.classes.id_of(label)

    def _note(self) -> None:
        notes = self.assembly.notes
        self.tally.add_notes(notes)
        if self.joined:
            notes.append(
                f"{counted(self.joined, 'outline')} joined with another of the same label and group_id, as parts of it."
            )
        if self.ignored:
            names = ", ".join(sorted(self.ignored))
            notes.append(f"{counted(self.ignored.total(), 'shape')} labelled {names} left out.")
        if self.attributes:
            notes.append(f"The attributes of {counted(self.attributes, 'shape')} are left out.")


def _listed(listing: Listing, file: str) -> list[str]:
    try:
        lines = [line.strip() for line in listing.read_lines(file)]
    except AnnotationError:
        return []
    return [line for line in lines if line and line not in _NO_CLASSES]


def _label(value: Any) -> str:
    """Return the name of a class; ``""`` if there is none."""
    if type(value) is int:
        return str(value) if abs(value) <= _MAX_INT32 else ""
    text = value.strip() if isinstance(value, str) else ""
    return printable(text)


def _box(kind: str, points: list[tuple[float, float]]) -> Box | None:
    """Return the bounding box of a shape; None for points, lines and unknown kinds, which have none."""
    box = bounds(points)
    if kind == "circle":
        if len(points) != 2 or box == NO_BOX:
            return NO_BOX
        radius = math.dist(*points)
        return around(*points[0], radius, radius)
    if kind == "mask":
        return (box[0], box[1], box[2] + 1, box[3] + 1) if len(points) == 2 else NO_BOX
    if kind == "rectangle":
        return box if len(points) >= 2 else NO_BOX
    if kind in ("polygon", "rotation", "oriented_rectangle", "quadrilateral", "cuboid"):
        return box if len(points) >= 3 else NO_BOX
    return None


def _tail(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].casefold()


def _shown(text: str) -> str:
    return printable(text)[:200]
