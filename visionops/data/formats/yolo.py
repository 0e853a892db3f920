"""YOLO: images, and a text file for each with a line for each object.

A line is ``class cx cy width height`` in fractions of the image; ``class x y x y x y …``, a polygon, of which the
bounding box is taken; or, where ``kpt_shape`` says so, a box and key points. Pixels need the size of the image, which
no file declares: it is read from the image's header (after EXIF rotation). Which layouts there are is said in
`visionops.data.formats.yolo_layouts`.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np

from visionops.config import DataConfig
from visionops.data.dataset import Dataset, Split
from visionops.data.files import safe_name
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import Assembly, ImageEntry, examples
from visionops.data.formats.beside import find_masks
from visionops.data.formats.names import Bases, Level, NameIndex
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.yolo_layouts import (
    DATA_FILE,
    NAME_LISTS,
    ORIENTED,
    SPLIT_FOLDERS,
    Entry,
    Layout,
    find_layout,
    place_of,
    split_of,
)
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.errors import AnnotationError

__all__ = ["DATA_FILE", "SPLIT_FOLDERS", "detect", "read"]

_MAX_FRACTION = 2.0
"""Boxes reach over the border by a little; a larger number is a pixel, not a fraction."""
_SAMPLE = 30
_FEWEST_POSES = 3
"""Lines that must look like key points before they are taken to be no polygons."""
_CORNERS = 9
"""Values of a line that has a class and four corners."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find a file that describes the export, or label files with lines of numbers beside images."""
    del data
    try:
        layout = find_layout(listing)
    except AnnotationError:
        layout = None
    labels = _sample_labels(listing)
    described = layout is not None and bool(layout.entries)
    if not labels and not described:
        return None
    if layout is None:
        reason = f"{labels[0]} has lines of a class and fractions, though no file lists class names"
        return Evidence(Strength.LIKELY, "YOLO", (reason,))
    reasons = [f"{layout.file} lists {counted(len(layout.names), 'class', 'classes')}"]
    if labels:
        reasons.append(f"{labels[0]} has lines of a class and fractions")
    return Evidence(Strength.SURE, layout.maker, tuple(reasons))


def _sample_labels(listing: Listing) -> list[str]:
    """Some text files that belong to an image and read as labels."""
    images = {stem_of(name) for name in listing.images}
    texts = listing.by_suffix.get(".txt", [])
    candidates = [name for name in texts if stem_of(name) in images or "labels" in name.lower().split("/")[:-1]]
    found = []
    for name in candidates[:: max(1, len(candidates) // _SAMPLE)]:
        try:
            first = next((line for line in listing.read_lines(name) if line.strip()), "")
        except AnnotationError:
            continue
        parts = first.split()
        if len(parts) >= 5 and parts[0].isdigit() and not isinstance(_numbers(parts), str):
            found.append(name)
    return found


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read what the layout names; an empty or absent label file is an image without objects.

    Images are in order of splits and names.
    """
    del data
    layout = find_layout(listing)
    if layout is None:
        what = "class names in classes.txt, in the order of numbers" if _sample_labels(listing) else "it"
        raise AnnotationError(f"{listing.path(DATA_FILE)}: not found; add {what}, or set data.format")
    return _Reader(listing, layout).read(name)


class _Reader:
    def __init__(self, listing: Listing, layout: Layout) -> None:
        self.listing = listing
        self.layout = layout
        self.assembly = Assembly(listing)
        self.class_ids = {number: self.assembly.classes.id_of(n, layout.file) for number, n in layout.names.items()}
        self.labels = NameIndex(listing.by_suffix.get(".txt", ()))
        self.splits: dict[str, Entry] = {}
        """Image key to the first entry that names it."""
        self.twice: dict[tuple[str, str], list[str]] = {}
        self.polygons = 0
        self.lines: list[tuple[str, list[float], tuple[int, int]]] = []
        """Lines of more than a box: place, numbers, size of the image."""
        self.num_boxes = 0
        self.used: set[str] = set()
        """Label files of an image."""

    def read(self, name: str) -> Dataset:
        for entry in self.layout.entries or self._by_folders():
            self._read_entry(entry)
        self._leave_out_masks()
        self._add_images()
        self._refuse_other_shapes()
        for (first, second), keys in self.twice.items():
            what = f"stand twice in {second}" if first == second else f"stand in {first} and in {second}"
            message = f"{len(keys)} images {what}; the first is kept; list each image once"
            self.assembly.found(Code.DUPLICATE_NAME, self.layout.file, message, tuple(keys))
        if self.polygons:
            self.assembly.notes.append(f"{counted(self.polygons, 'polygon')} read as bounding boxes.")
        return self.assembly.dataset(name, labels=self._strays())

    def _by_folders(self) -> Iterator[Entry]:
        """Without a file that names them, all images, in the splits that their folders say."""
        order = list(Split)
        keys = sorted(self.listing.images, key=lambda key: (order.index(split_of(key)), key))
        return (Entry(SPLIT_FOLDERS[split_of(key)], split_of(key), key) for key in keys)

    def _read_entry(self, entry: Entry) -> None:
        if not self.layout.entries:
            self._claim(entry.place, entry)
            return
        place = self._find(entry)
        if place is None:
            return
        if place in self.listing.files:
            if self.listing.files[place].is_image:
                self._claim(place, entry)
            else:
                self._read_list(place, entry)
            return
        for key in self.listing.below(place):
            if key in self.listing.images:
                self._claim(key, entry)

    def _find(self, entry: Entry) -> str | None:
        """The place of an entry. Exports name places of other machines, and folders one level too high."""
        listing, where = self.listing, self.listing.path(self.layout.file)
        place = place_of(listing, self.layout.base, entry.place)
        if place is not None and self._is_there(place):
            return place
        if entry.place.startswith("../"):  # how a widespread labelling tool writes its exports
            inside = place_of(listing, self.layout.base, entry.place[3:])
            if inside is not None and self._is_there(inside):
                return inside
        parts = [part for part in entry.place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for start in range(1, len(parts)):
            tail = "/".join(parts[start:])
            for base in dict.fromkeys((self.layout.base, "")):
                found = posixpath.normpath(posixpath.join(base, tail))
                if self._is_there(found):
                    self.assembly.notes.append(f"{self.layout.file}: {entry.key}: {entry.place} is found as {found}.")
                    return found
        if entry.split is not Split.TRAIN and any(e.split is Split.TRAIN for e in self.layout.entries):
            self.assembly.notes.append(f"{self.layout.file}: {entry.key}: {entry.place} is not there; left out.")
            return None
        if place is None:
            raise AnnotationError(f"{where}: {entry.key}: {entry.place} lies outside {listing.root}; move it there")
        raise AnnotationError(f"{where}: {entry.key}: {listing.path(place)} is not there; add it or correct the entry")

    def _is_there(self, place: str) -> bool:
        return not place or place in self.listing.folders or place in self.listing.files

    def _read_list(self, place: str, entry: Entry) -> None:
        """Read a list of images. ``./`` is relative to the list file, anything else to the data set."""
        folder, base = folder_of(place), self.layout.base
        listed = []
        for number, line in enumerate(self.listing.read_lines(place), start=1):
            text = line.strip()
            if not text:
                continue
            relative = place_of(self.listing, folder if text.startswith(("./", ".\\")) else base, text)
            # What leaves the data set keeps its form, so that it is refused.
            listed.append(ImageEntry(text if relative is None else relative, f"{place}:{number}", entry.split))
        bases: Bases = (("",), tuple({f"{base}/" if base else "", f"{folder}/" if folder else ""}))
        for image, key in zip(listed, self.assembly.find_images(listed, bases), strict=True):
            if key is None:
                continue
            if key not in self.listing.files:
                message = "the file is not there; add it or remove the line"
                self.assembly.found(Code.MISSING_IMAGE, image.where, message, (key,))
            self._claim(key, entry)

    def _claim(self, key: str, entry: Entry) -> None:
        if key in self.splits:
            self.twice.setdefault((self.splits[key].key, entry.key), []).append(key)
        else:
            self.splits[key] = entry

    def _leave_out_masks(self) -> None:
        for key in find_masks(self.listing):
            self.splits.pop(key, None)

    def _add_images(self) -> None:
        keys = list(self.splits)
        wanted = [_label_of(key) for key in keys]
        found = self.labels.match(wanted, up_to=Level.PREFIX)
        self.used = {match.file for match in found if match.file}
        without, loose = [], []
        for key, label, match in zip(keys, wanted, found, strict=True):
            entry = self.splits[key]
            if match.rivals:
                what = " and ".join(map(repr, match.rivals[:3]))
                message = f"label files {what} match it equally well; keep one"
                self.assembly.found(Code.AMBIGUOUS_NAME, key, message, (key,))
                self.assembly.claimed.add(key)
                self.used.update(match.rivals)
                continue
            if not self._is_safe(key):
                continue
            row = self.assembly.add_file(key, ImageEntry(key, key, entry.split))
            size = self.assembly.size_of(row)
            if match.file is None:
                without.append(key)
                continue
            if match.level > Level.EXACT:
                loose.append(f"{match.file} for {label}")
            if all(size):
                self._read_labels(row, match.file, size)
        labelled = [key for key in keys if self.splits[key].split is not Split.UNLABELLED]
        if labelled and not self.used:
            expected = self.listing.path(_label_of(labelled[0]))
            raise AnnotationError(f"{expected}: not found, and no image has a label file; put labels there")
        silent = [key for key in without if self.splits[key].split is not Split.UNLABELLED]
        if silent:
            self.assembly.notes.append(
                f"{counted(len(silent), 'image')} without a label file, taken as without objects ({examples(silent)})."
            )
        if loose:
            self.assembly.notes.append(
                f"{counted(len(loose), 'label file')} found by less than the exact name ({examples(loose, 2)})."
            )

    def _is_safe(self, key: str) -> bool:
        if safe_name(key) is not None:
            return True
        message = "the file name has a backslash, a control character or a line break; rename the file"
        self.assembly.found(Code.UNSAFE_NAME, repr(key), message)
        self.assembly.claimed.add(key)
        return False

    def _read_labels(self, row: int, place: str, size: tuple[int, int]) -> None:
        for number, line in enumerate(self.listing.read_lines(place), start=1):
            parts = line.replace(",", " ").split()
            if parts:
                self._read_line(row, f"{place}:{number}", parts, size)

    def _read_line(self, row: int, where: str, parts: list[str], size: tuple[int, int]) -> None:
        numbers = _numbers(parts)
        problem = numbers if isinstance(numbers, str) else _problem_with(numbers, self.layout.keypoints)
        if isinstance(numbers, str) or problem:
            self.assembly.found(Code.BAD_BOX, where, f"{problem}; correct or remove it", (self.assembly.keys[row],))
            return
        number = int(numbers[0])
        if number not in self.class_ids:
            message = f"class {number} is not in 'names' of {self.layout.file}; add it or remove the line"
            self.assembly.found(Code.UNKNOWN_CATEGORY, where, message, (self.assembly.keys[row],))
            return
        if len(numbers) == 5 or self.layout.keypoints:
            cx, cy, w, h = numbers[1:5]
            box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        else:
            xs, ys = numbers[1::2], numbers[2::2]
            box = (min(xs), min(ys), max(xs), max(ys))
            self.polygons += 1
            self.lines.append((where, numbers, size))
        self.num_boxes += 1
        width, height = size
        pixels = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        self.assembly.add_box(row, self.layout.names[number], pixels, where)

    def _refuse_other_shapes(self) -> None:
        """Refuse what looks like polygons but is not: oriented boxes, and key points that no ``kpt_shape`` announces.

        Raises:
            AnnotationError: Every line of the data set is of such a kind.
        """
        if not self.lines or len(self.lines) < self.num_boxes:
            return
        where, file = self.lines[0][0], self.listing.path(self.layout.file)
        lengths = {len(numbers) for _, numbers, _ in self.lines}
        if lengths == {_CORNERS}:
            quads = [(np.array(n[1:]).reshape(4, 2) * size) for _, n, size in self.lines]
            if all(_is_rectangle(quad) for quad in quads) and not all(_is_upright(quad) for quad in quads):
                raise AnnotationError(f"{self.listing.path(where.rpartition(':')[0])}: {ORIENTED}")
        many = len(lengths) == 1 and len(self.lines) >= _FEWEST_POSES
        if many and all(_is_pose(numbers) for _, numbers, _ in self.lines):
            raise AnnotationError(
                f"{file}: the lines ({where}) look like a box with key points, not like polygons; add kpt_shape: "
                "[number of key points, 2 or 3], or export boxes"
            )

    def _strays(self) -> list[str]:
        """Label files in folders of labels that belong to no image: beside images, any text may lie."""
        of_images = {_label_of(key) for key in self.listing.images}
        return [
            name
            for name in self.listing.by_suffix.get(".txt", ())
            if name not in self.used
            and name not in of_images
            and "labels" in name.lower().split("/")[:-1]
            and posixpath.basename(name).lower() not in NAME_LISTS
        ]


def _label_of(key: str) -> str:
    """``images/train/a.jpg`` -> ``labels/train/a.txt``, by the last ``images`` folder in any case; else beside it."""
    *parts, tail = key.split("/")
    at = next((i for i in reversed(range(len(parts))) if parts[i].lower() == "images"), None)
    if at is not None:
        parts[at] = "labels"
    return stem_of("/".join([*parts, tail])) + ".txt"


def _numbers(parts: Sequence[str]) -> list[float] | str:
    try:
        return [float(part) for part in parts]
    except ValueError:
        return "not all values are numbers"


def _problem_with(numbers: list[float], keypoints: tuple[int, int] | None) -> str:
    count = len(numbers)
    allowed = 5 + keypoints[0] * keypoints[1] if keypoints else 0
    if keypoints and count not in (5, allowed):
        return f"{count} values; kpt_shape expects {allowed}: class cx cy width height and the key points"
    if not keypoints and (count < 5 or count % 2 == 0):
        hint = "; a sixth is a confidence, as in predictions" if count == 6 else ""
        return f"{count} values; expected class cx cy width height, or class and the points of a polygon{hint}"
    if not all(map(math.isfinite, numbers)):
        return "a value is not finite"
    if numbers[0] != int(numbers[0]):
        return f"class {numbers[0]} is not a whole number"
    box = numbers[1:5] if keypoints else numbers[1:]
    if max(map(abs, box)) > _MAX_FRACTION:
        return "values must be fractions of the image, 0 to 1, not pixels"
    is_box = count == 5 or keypoints is not None
    return "width or height is negative" if is_box and min(numbers[3:5]) < 0 else ""


def _is_rectangle(quad: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    """Whether four corners, in pixels, are those of a rectangle at any angle, to a pixel and a half or 2 %."""
    slack = max(1.5, 0.02 * float(np.ptp(quad, axis=0).max()))
    diagonals = np.linalg.norm(quad[0] - quad[2]), np.linalg.norm(quad[1] - quad[3])
    return bool(np.abs(quad[0] + quad[2] - quad[1] - quad[3]).max() <= 2 * slack) and bool(
        abs(diagonals[0] - diagonals[1]) <= slack
    )


def _is_upright(quad: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    low, high = quad.min(axis=0), quad.max(axis=0)
    return bool((np.minimum(np.abs(quad - low), np.abs(quad - high)) <= 1.0).all())


def _is_pose(numbers: list[float]) -> bool:
    """Whether the first four values are a box that holds all points after them, as pairs or with a visibility."""
    cx, cy, w, h = numbers[1:5]
    rest = np.array(numbers[5:])
    if w <= 0 or h <= 0:
        return False
    for values in (2, 3):
        if len(rest) < 2 * values or len(rest) % values:
            continue
        points = rest.reshape(-1, values)
        seen = points[(points[:, :2] != 0).any(axis=1)]
        near = (np.abs(seen[:, :2] - (cx, cy)) <= np.array([w, h]) / 2 * 1.05 + 1e-6).all()
        if len(seen) and near and (values == 2 or set(points[:, 2]) <= {0.0, 1.0, 2.0}):
            return True
    return False
