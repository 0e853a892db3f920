"""Read Pascal VOC: one XML file per image, in any folder, and lists of splits in ``ImageSets/Main/*.txt``.

VOC counts pixels from 1 and includes the last one; we use continuous coordinates from 0. A VOC box becomes
``(xmin - 1, ymin - 1, xmax, ymax)``: a box over the whole of a 200 x 200 image, 1 to 200, is 0 to 200 here. If a box of
the data set starts at 0, its tool counted from 0, and all boxes keep their numbers.
"""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.files import IMAGE_SUFFIXES
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import Assembly, ImageEntry, examples
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.splits import split_of_folders
from visionops.data.formats.voc_places import Partner, Partners
from visionops.data.formats.voc_splits import VocLists
from visionops.data.formats.xml_files import first_tag, head_of, number, parse_xml, printable
from visionops.data.listing import Listing, folder_of, stem_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_MAX_INT32 = 2**31 - 1
_SAMPLED = 24
_ANNOTATION_FOLDERS = frozenset({"annotations", "annotation"})
_OTHER_ROOTS = {
    "dataset": "a list of dlib's imglab",
    "tagset": "a list of ICDAR's text challenge",
    "viper": "a file of ViPER-GT",
    "boost_serialization": "tracklets of KITTI",
}
"""Roots of XML files with boxes in unsupported formats."""

_Box = tuple[float, float, float, float]


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find XML files with the root ``<annotation>``, by the heads of a sample."""
    del data
    candidates = _candidates(listing)
    sample = candidates[:: max(1, len(candidates) // _SAMPLED)]
    tags = {name: first_tag(head_of(listing, name)) for name in sample}
    files = [name for name, tag in tags.items() if tag == "annotation"]
    if files:
        reasons = [f"{name} is XML with the root <annotation>" for name in files[:2]]
        lists = [name for name in listing.by_suffix.get(".txt", ()) if "imagesets/" in name.lower()]
        reasons += [f"{name} lists images" for name in lists[:1]]
        return Evidence(Strength.SURE, _shape(listing, files[0], len(candidates)), tuple(reasons))
    for name, tag in tags.items():
        if tag in _OTHER_ROOTS:
            return Evidence(Strength.LIKELY, _OTHER_ROOTS[tag], (f"{name} has the root <{tag}>",))
    return None


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all XML files with the root ``<annotation>``.

    The image of a file is the one with the same name, beside it or in the image folder that belongs to its folder, else
    the one in ``<filename>``. Lists in ``ImageSets`` give the splits, and images in none of them are left out; without
    lists, folders named after splits give them. Classes are in alphabetical order.

    Raises:
        AnnotationError: There is no such file, or a file is not XML or lacks what VOC requires.
    """
    del data
    files, others = _parse_all(listing)
    if not files:
        raise AnnotationError(
            f"{listing.root / 'Annotations'}: not found, or holds no XML files with the root <annotation>; point "
            "data.source.path at a VOC folder, or set data.format"
        )
    reader = _Reader(listing, files)
    if others:
        reader.assembly.notes.append(
            f"{counted(len(others), 'XML file')} without VOC annotations left out ({examples(others)})."
        )
    return reader.dataset(name)


def _candidates(listing: Listing) -> list[str]:
    """Return the XML files; in a folder of annotations also files without a suffix, as in Stanford Dogs."""
    files = listing.by_suffix.get(".xml", [])
    if files:
        return files
    return [name for name in listing.by_suffix.get("", ()) if _in_annotations(name)]


def _in_annotations(name: str) -> bool:
    return not _ANNOTATION_FOLDERS.isdisjoint(folder_of(name).lower().split("/"))


def _shape(listing: Listing, file: str, count: int) -> str:
    if any("roboflow" in name.lower() for name in listing.by_suffix.get(".txt", ())):
        maker = "Roboflow Pascal VOC"
    elif any(stem_of(file) + suffix in listing.files for suffix in IMAGE_SUFFIXES):
        maker = "Pascal VOC beside the images, as labelImg writes it"
    else:
        maker = "Pascal VOC"
    return f"{maker}, {counted(count, 'file')}"


class _Object(NamedTuple):
    class_name: str
    box: _Box
    where: str
    counts_pixels: bool
    """Whether the corners are pixels, from 1 or from 0, like those of ``<bndbox>``; else they are continuous."""


@dataclasses.dataclass
class _File:
    """Content of one XML file."""

    name: str
    declared: str
    size: tuple[int, int]
    objects: list[_Object]
    deleted: int
    """Number of objects that are marked as deleted."""


def _parse_all(listing: Listing) -> tuple[list[_File], list[str]]:
    """Return the VOC files, and the names of other XML files elsewhere.

    Raises:
        AnnotationError: A file is malformed, or of another format.
    """
    files: list[_File] = []
    others: list[tuple[str, AnnotationError]] = []
    for name in _candidates(listing):
        try:
            root = parse_xml(listing, name)
        except AnnotationError as error:
            if _in_annotations(name) or first_tag(head_of(listing, name)) in ("annotation", ""):
                raise
            others.append((name, error))
            continue
        if root.tag == "annotation":
            files.append(_FileReader(listing, name, root).read())
        else:
            what = f", {_OTHER_ROOTS[root.tag]}" if root.tag in _OTHER_ROOTS else ""
            message = f"the root must be <annotation>, but is <{root.tag[:60]}>{what}; export as Pascal VOC"
            others.append((name, AnnotationError(f"{listing.path(name)}: {message}")))
    places = {folder_of(file.name) for file in files}
    for name, problem in others:
        if not files or folder_of(name) in places or _in_annotations(name):
            raise problem
    return files, [name for name, _ in others]


class _FileReader:
    """Reads the objects of one file."""

    def __init__(self, listing: Listing, name: str, root: ET.Element) -> None:
        self.path = listing.path(name)
        self.name = name
        self.root = root
        self.shown = printable(name)

    def read(self) -> _File:
        objects: list[_Object] = []
        deleted = 0
        for index, element in enumerate(self.root.iterfind("object"), start=1):
            if (element.findtext("deleted") or "").strip() == "1":  # LabelMe on the web keeps deleted objects
                deleted += 1
            else:
                objects += self._read_object(element, f"object {index}")
        size = (self._size("width"), self._size("height"))
        return _File(self.name, _file_name(self.root.findtext("filename") or ""), size, objects, deleted)

    def _read_object(self, element: ET.Element, which: str) -> list[_Object]:
        class_name = (element.findtext("name") or "").strip()
        if not class_name:
            raise self._error(f"{which} lacks <name>; add it or remove the object")
        where = f"{self.shown}: {which}"
        boxes = element.findall("bndbox")
        if boxes:
            places = [where] if len(boxes) == 1 else [f"{where}, box {i}" for i in range(1, len(boxes) + 1)]
            return [
                _Object(class_name, self._corners(box, which), place, True)
                for box, place in zip(boxes, places, strict=True)
            ]
        return [_Object(class_name, self._bounds(element, which), where, False)]

    def _bounds(self, element: ET.Element, which: str) -> _Box:
        """Return the bounding box of a rotated box (roLabelImg), a polygon or a mask (LabelMe on the web)."""
        rotated, polygon, mask = element.find("robndbox"), element.find("polygon"), element.find("segm/box")
        if rotated is not None:
            cx, cy, width, height, angle = (
                self._number(rotated, tag, which) for tag in ("cx", "cy", "w", "h", "angle")
            )
            if not math.isfinite(angle):
                return (math.nan,) * 4
            cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
            half_x, half_y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
            return cx - half_x, cy - half_y, cx + half_x, cy + half_y
        if polygon is not None:
            points = _points(polygon)
            if not points:
                raise self._error(f"{which}: <polygon> must have points <x>, <y> in pixels; correct it")
            xs, ys = zip(*points, strict=True)
            if not all(map(math.isfinite, (*xs, *ys))):
                return (math.nan,) * 4
            return min(xs), min(ys), max(xs), max(ys)
        if mask is not None:
            return self._corners(mask, which)
        raise self._error(f"{which} lacks <bndbox>; add it or remove the object")

    def _corners(self, box: ET.Element, which: str) -> _Box:
        x1, y1, x2, y2 = (self._number(box, tag, which) for tag in ("xmin", "ymin", "xmax", "ymax"))
        return x1, y1, x2, y2

    def _number(self, element: ET.Element, tag: str, which: str) -> float:
        text = (element.findtext(tag) or "").strip()
        value = number(text)
        if value is None:
            raise self._error(f"{which}: <{tag}> must be a number, but is {text[:60]!r}; correct it")
        return value

    def _size(self, tag: str) -> int:
        text = (self.root.findtext(f"size/{tag}") or "").strip() or "0"
        value = number(text)
        if value is None or not 0 <= value <= _MAX_INT32 or value != int(value):
            raise self._error(f"<{tag}> must be a number of pixels, but is {text[:60]!r}; correct it")
        return int(value)

    def _error(self, message: str) -> AnnotationError:
        return AnnotationError(f"{self.path}: {message}")


def _file_name(text: str) -> str:
    """Strip spaces from a name, unless its folder is named by spaces: the result must not be an absolute path."""
    name = text.strip()
    return text if name.startswith("/") and "\n" not in text else name


def _points(polygon: ET.Element) -> list[tuple[float, float]]:
    """Parse ``<pt><x>…<y>…`` (LabelMe on the web) or ``<x1>…<y1>…<x2>…`` (Roboflow); empty if not all numbers."""
    pairs = [(pt.findtext("x"), pt.findtext("y")) for pt in polygon.iter("pt")]
    if not pairs:
        corners = {child.tag: child.text for child in polygon}
        numbers = [tag[1:] for tag in corners if tag[:1] == "x"]
        pairs = [(corners[f"x{i}"], corners.get(f"y{i}")) for i in numbers]
    points = [(number(x), number(y)) for x, y in pairs]
    return [(x, y) for x, y in points if x is not None and y is not None] if _complete(points) else []


def _complete(points: Sequence[tuple[float | None, float | None]]) -> bool:
    return all(x is not None and y is not None for x, y in points)


class _Reader:
    """Joins all files into one data set."""

    def __init__(self, listing: Listing, files: list[_File]) -> None:
        self.listing = listing
        self.files = files
        self.assembly = Assembly(listing)
        self.lists = VocLists(listing, [file.name for file in files])
        self.partners = Partners(listing)

    def dataset(self, name: str) -> Dataset:
        assembly, lists = self.assembly, self.lists
        partners = self.partners.find([(file.name, file.declared) for file in self.files])
        for where, message, stems in lists.contradictions:
            keys = tuple(
                p.match.file or p.name for file, p in zip(self.files, partners, strict=True) if file.name in stems
            )
            assembly.found(Code.DUPLICATE_NAME, where, message, keys)
        splits = self._splits(partners)
        from_zero = self._count_from_zero()
        unlisted: list[str] = []
        renamed: list[str] = []
        for file, partner, split in zip(self.files, partners, splits, strict=True):
            shown = printable(file.name)
            if partner.is_unsafe:
                message = f"file name {partner.name!r} is not a plain path inside the data set; correct it"
                assembly.found(Code.UNSAFE_NAME, shown, message)
                assembly.claimed.update([partner.match.file] if partner.match.file else ())
                continue
            if split is None:
                unlisted.append(partner.match.file or file.name)
                continue
            if partner.other:
                renamed.append(f"{shown} names {partner.other}")
            entry = ImageEntry(partner.name, shown, split, *file.size)
            row = assembly.add_match(entry, partner.name, partner.match)
            if row >= 0 and not all(file.size):
                assembly.size_of(row)
            shift = 0 if from_zero else 1
            for item in file.objects:
                by = shift if item.counts_pixels else 0
                x1, y1, x2, y2 = item.box
                assembly.add_box(row, item.class_name, (x1 - by, y1 - by, x2, y2), item.where)
        self._report(unlisted, renamed)
        return assembly.dataset(name, sort_classes=True)

    def _splits(self, partners: list[Partner]) -> list[Split | None]:
        """Return the split of each file; None for those to leave out."""
        if self.lists.found:
            return [self.lists.split_of(file.name) for file in self.files]
        splits = [
            split_of_folders(file.name) or split_of_folders(partner.match.file or "")
            for file, partner in zip(self.files, partners, strict=True)
        ]
        if len(set(splits) - {Split.NONE}) < 2:  # a single word names the origin of the folder, not a split
            return [Split.NONE] * len(splits)
        return list(splits)

    def _count_from_zero(self) -> bool:
        """Return whether a box starts at 0: impossible when counting from 1, common when counting from 0."""
        at_zero = [
            item.where
            for file in self.files
            for item in file.objects
            if item.counts_pixels and _starts_at_zero(item.box)
        ]
        if at_zero:
            self.assembly.notes.append(
                f"{counted(len(at_zero), 'box', 'boxes')} start at pixel 0 ({at_zero[0]}), though VOC counts from 1: "
                "the whole data set is read as counted from 0."
            )
        return bool(at_zero)

    def _report(self, unlisted: list[str], renamed: list[str]) -> None:
        assembly = self.assembly
        if unlisted:
            assembly.claimed.update(unlisted)
            first = unlisted[0] if len(unlisted) == 1 else f"{unlisted[0]} and {len(unlisted) - 1:,} more"
            message = "not in any list in ImageSets; it is left out; add it to a list or remove it"
            assembly.found(Code.ORPHAN_IMAGE, printable(first), message, tuple(unlisted))
        for where, message in self.lists.unknown:
            assembly.found(Code.UNKNOWN_IMAGE, where, message)
        if renamed:
            count = counted(len(renamed), "file names", "files name")
            assembly.notes.append(
                f"{count} another image in <filename> ({examples(renamed, 2)}): its own name is used."
            )
        deleted = sum(file.deleted for file in self.files)
        if deleted:
            assembly.notes.append(f"{counted(deleted, 'object')} marked as deleted left out.")
        bounded = sum(not item.counts_pixels for file in self.files for item in file.objects)
        if bounded:
            assembly.notes.append(
                f"{counted(bounded, 'rotated box or polygon', 'rotated boxes or polygons')} read as the box around it."
            )


def _starts_at_zero(box: _Box) -> bool:
    x1, y1, x2, y2 = box
    return min(x1, y1) >= 0 and (x1 < 1 or y1 < 1) and x2 > x1 and y2 > y1 and math.isfinite(x2) and math.isfinite(y2)
