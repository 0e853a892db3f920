"""Read CVAT for images 1.1: one XML file per task, job or project, with the shapes of every image.

CVAT counts pixels continuously from the upper left corner, as we do. A shape other than an upright box becomes its
bounding box; single points have none, and are left out.
"""

from __future__ import annotations

import dataclasses
import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from visionops.data.dataset import Dataset, Split
from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import DROPPED, Assembly, ImageEntry, examples
from visionops.data.formats.names import Bases
from visionops.data.formats.protocol import Evidence, Strength
from visionops.data.formats.shapes import NO_BOX, Box, ShapeCounts, around, bounds
from visionops.data.formats.splits import split_in_name, split_of_file
from visionops.data.formats.xml_files import first_tag, head_of, iterate_children, number, printable
from visionops.data.listing import Listing, folder_of
from visionops.data.settings import DataConfig
from visionops.errors import AnnotationError

__all__ = ["detect", "read"]

_SAMPLED = 24
_MAX_INT32 = 2**31 - 1
_MARKS = ("<version>1.", "<meta>", "<image ", "<track ")
"""Markers near the head of a CVAT file; ``<annotations>`` of other tools have none of them."""


def detect(listing: Listing, data: DataConfig) -> Evidence | None:
    """Find XML files with the root ``<annotations>`` and CVAT's own content."""
    del data
    candidates = listing.by_suffix.get(".xml", [])
    if len(candidates) > _SAMPLED:  # many small files belong to another format
        candidates = sorted(candidates, key=lambda name: -listing.files[name].num_bytes)[:_SAMPLED]
    files = sorted(name for name in candidates if _is_cvat(listing, name))
    if not files:
        return None
    tracks = any("<track " in head_of(listing, name) for name in files)
    kind = "CVAT for video 1.1" if tracks else "CVAT for images 1.1"
    reasons = tuple(f"{name} is XML with the root <annotations> of CVAT" for name in files[:3])
    return Evidence(Strength.SURE, f"{kind}, {counted(len(files), 'file')}", reasons)


def read(listing: Listing, data: DataConfig, name: str) -> Dataset:
    """Read all CVAT files.

    Classes are the labels that the files declare, in their order, also those without a shape. The split comes from the
    subset of an image or of its task, or with several files from their names.

    Raises:
        AnnotationError: There is no such file, a file is not XML, holds tracks of a video, or has only tags.
    """
    del data
    files = sorted(file for file in listing.by_suffix.get(".xml", ()) if _is_cvat(listing, file))
    if not files:
        raise AnnotationError(
            f"{listing.root}: no XML file below it has the root <annotations> of CVAT; export as CVAT for images 1.1, "
            "or set data.format"
        )
    reader = _Reader(listing)
    for file in files:
        reader.read_file(file)
    return reader.dataset(name)


def _is_cvat(listing: Listing, name: str) -> bool:
    head = head_of(listing, name)
    return first_tag(head) == "annotations" and any(mark in head for mark in _MARKS)


class _Shape(NamedTuple):
    image: int
    """Index of its image in the file."""
    label: str
    box: Box
    where: str


@dataclasses.dataclass
class _Content:
    """Content of one file, before its images are searched."""

    file: str
    labels: list[str] = dataclasses.field(default_factory=list)
    subset: str = ""
    entries: list[ImageEntry] = dataclasses.field(default_factory=list)
    subsets: list[str] = dataclasses.field(default_factory=list)
    shapes: list[_Shape] = dataclasses.field(default_factory=list)
    points_only: set[int] = dataclasses.field(default_factory=set)
    """Indices of images with a shape that has no box."""


class _Reader:
    """Joins all files into one data set."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.assembly = Assembly(listing)
        self.contents: list[_Content] = []
        self.tally = ShapeCounts()
        self.tags = 0
        self.attributes = 0

    def read_file(self, file: str) -> None:
        """Read one file.

        Raises:
            AnnotationError: It is not XML, or holds tracks of a video.
        """
        content = _Content(file)
        for index, element in enumerate(iterate_children(self.listing, file)):
            if index == 0 and element.tag != "annotations":
                raise AnnotationError(f"{self.listing.path(file)}: the root must be <annotations>; export from CVAT")
            if element.tag == "meta":
                _read_meta(element, content)
            elif element.tag == "track":
                raise AnnotationError(
                    f"{self.listing.path(file)}: CVAT for video 1.1 holds tracks, not images; export the task as CVAT "
                    "for images 1.1 or COCO 1.0, with its frames"
                )
            elif element.tag == "image":
                self._read_image(element, content)
        self.contents.append(content)

    def _read_image(self, element: ET.Element, content: _Content) -> None:
        name = element.get("name") or ""  # leading and trailing spaces belong to it
        shown = element.get("id", f"#{len(content.entries) + 1}")[:40]
        where = f"{printable(content.file)}: image {shown}"
        if not name.strip():
            self.assembly.found(Code.UNKNOWN_IMAGE, where, 'lacks "name"; export the annotations again')
            return
        index = len(content.entries)
        width, height = (_size(element.get(key)) for key in ("width", "height"))
        content.entries.append(ImageEntry(name, where, Split.NONE, width, height))
        content.subsets.append((element.get("subset") or "").strip())
        numbers: Counter[str] = Counter()
        for shape in element:
            numbers[shape.tag] += 1
            self._read_shape(shape, content, index, f"{where}: {shape.tag[:20]} {numbers[shape.tag]}")

    def _read_shape(self, shape: ET.Element, content: _Content, index: int, where: str) -> None:
        self.attributes += sum(child.tag == "attribute" for child in shape)
        if shape.tag == "tag":
            self.tags += 1
            return
        kind = _KINDS.get(shape.tag)
        if kind is None:
            self.tally.left_out[f"<{shape.tag[:20]}>"] += 1
            content.points_only.add(index)
            return
        label = (shape.get("label") or "").strip()
        if not label:
            message = 'lacks "label"; set it in CVAT and export again'
            self.assembly.found(Code.UNKNOWN_CATEGORY, where, message)
            return
        box = kind(shape)
        if box is None:
            self.tally.left_out["points"] += 1
            content.points_only.add(index)
            return
        word = "rotated box" if shape.tag == "box" else shape.tag
        if word != "rotated box" or _rotation(shape):
            self.tally.bounded[word] += 1
        content.shapes.append(_Shape(index, label, box, where))

    def dataset(self, name: str) -> Dataset:
        """Build the data set from all files.

        Raises:
            AnnotationError: There are tags, but no shapes.
        """
        assembly = self.assembly
        if self.tags and not any(content.shapes for content in self.contents):
            raise AnnotationError(
                f"{self.listing.path(self.contents[0].file)}: has tags (classes of whole images) and no shapes; export "
                "as ImageNet 1.0 from CVAT and read that with data.format: folders"
            )
        for content in self.contents:
            for label in content.labels:
                assembly.classes.id_of(label, printable(content.file))
        splits = self._splits()
        hidden: set[int] = set()
        for content in self.contents:
            for subset, members in _by_subset(content).items():
                assembly.reserve((content.entries[i].name for i in members), _bases(content.file, subset))
        for content, own in zip(self.contents, splits, strict=True):
            hidden |= self._add(content, own)
        self._note()
        declared = any(content.labels for content in self.contents)
        return assembly.dataset(name, sort_classes=not declared, leave_out=hidden)

    def _splits(self) -> list[list[Split]]:
        """Return the split of each image in each file."""
        several = len(self.contents) > 1
        found = []
        for content in self.contents:
            of_file = split_in_name(content.subset)
            if several and not of_file:
                of_file = split_of_file(content.file, unlabelled=True)
            found.append(
                [split_in_name(own) if own.lower() not in ("", "default") else of_file for own in content.subsets]
            )
        known = {split for own in found for split in own} - {Split.NONE}
        if len(known) == 1 and Split.TRAIN not in known:  # one part of a project is split like any data
            return [[Split.NONE] * len(own) for own in found]
        return found

    def _add(self, content: _Content, splits: Sequence[Split]) -> set[int]:
        """Add the images and boxes of a file; return the rows of images to leave out."""
        rows = [DROPPED] * len(content.entries)
        for subset, members in _by_subset(content).items():
            entries = [content.entries[i]._replace(split=splits[i]) for i in members]
            added = self.assembly.add_images(entries, _bases(content.file, subset))
            for i, row in zip(members, added, strict=True):
                rows[i] = row
        for shape in content.shapes:
            self.assembly.add_box(rows[shape.image], shape.label, shape.box, shape.where)
        bare = content.points_only - {shape.image for shape in content.shapes}
        hidden = [rows[i] for i in sorted(bare) if rows[i] != DROPPED]
        if hidden:
            keys = tuple(self.assembly.keys[row] for row in hidden)
            self.assembly.found(
                Code.CROWD_ONLY,
                f"{printable(content.file)}: {counted(len(keys), 'image')}",
                "only points or shapes without a box, left out, as they would count as background: "
                f"{examples(keys, 12)}",
                keys,
            )
        return set(hidden)

    def _note(self) -> None:
        notes = self.assembly.notes
        self.tally.add_notes(notes)
        if self.tags:
            notes.append(f"{counted(self.tags, 'tag')} of whole images left out: boxes are read.")
        if self.attributes:
            notes.append(f"{counted(self.attributes, 'attribute')} of objects left out.")


def _read_meta(meta: ET.Element, content: _Content) -> None:
    """Read labels and subset of the task, job or project, without sublabels of skeletons, tags and points."""
    for owner in meta:
        content.subset = content.subset or (owner.findtext("subset") or "").strip()
        for label in owner.iterfind("labels/label"):
            name = (label.findtext("name") or "").strip()
            kind = (label.findtext("type") or "").strip()
            if name and label.find("parent") is None and kind not in ("tag", "points"):
                content.labels.append(name)


def _by_subset(content: _Content) -> dict[str, list[int]]:
    """Return a mapping of subsets to the indices of their images."""
    members: dict[str, list[int]] = {}
    for i, subset in enumerate(content.subsets):
        members.setdefault(subset or content.subset, []).append(i)
    return members


def _bases(file: str, subset: str) -> Bases:
    """Return the folders of a file's images: ``images/<subset>``, ``images``, or beside it."""
    folder = folder_of(file)
    here = f"{folder}/" if folder else ""
    above = f"{folder_of(folder)}/" if folder_of(folder) else ""
    starts = tuple(dict.fromkeys((here, above, "")))
    ranks = []
    for start in starts:
        if subset:
            ranks.append((f"{start}images/{subset}/",))
            ranks.append((f"{start}{subset}/",))
        ranks.append((f"{start}images/",))
        ranks.append((start,))
    return tuple(ranks)


def _size(text: str | None) -> int:
    """Return a number of pixels; 0 if it is not a number: then the image header has it."""
    value = number(text)
    return int(value) if value is not None and 0 <= value <= _MAX_INT32 and value == int(value) else 0


def _numbers(shape: ET.Element, *keys: str) -> list[float]:
    """Return values of attributes; NaN for a value that is not a number, so that the box becomes a finding."""
    values = (number(shape.get(key)) for key in keys)
    return [math.nan if value is None else value for value in values]


def _rotation(shape: ET.Element) -> float:
    """Return the rotation in degrees, clockwise."""
    text = shape.get("rotation")
    value = 0.0 if text is None else number(text)
    return math.nan if value is None else value


def _box(shape: ET.Element) -> Box:
    x1, y1, x2, y2 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    angle = _rotation(shape)
    if not angle:
        return x1, y1, x2, y2
    if x2 < x1 or y2 < y1 or not math.isfinite(angle):
        return NO_BOX
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    width, height = x2 - x1, y2 - y1
    return around((x1 + x2) / 2, (y1 + y2) / 2, (width * cos + height * sin) / 2, (width * sin + height * cos) / 2)


def _ellipse(shape: ET.Element) -> Box:
    cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry")
    angle = _rotation(shape)
    if not all(map(math.isfinite, (rx, ry, angle))) or rx < 0 or ry < 0:
        return NO_BOX
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return around(cx, cy, math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos))


def _mask(shape: ET.Element) -> Box:
    left, top, width, height = _numbers(shape, "left", "top", "width", "height")
    return left, top, left + width, top + height


def _polygon(shape: ET.Element) -> Box:
    return bounds(_points_of(shape))


def _points(shape: ET.Element) -> Box | None:
    """Return the bounding box of points; None for a single point, which has no extent."""
    del shape
    return None


def _skeleton(shape: ET.Element) -> Box | None:
    """Return the bounding box of the points inside the image; None if they have no extent."""
    found = [point for child in shape if child.get("outside") != "1" for point in _points_of(child)]
    box = bounds(found)
    return None if not found or (box[0] == box[2] and box[1] == box[3]) else box


def _cuboid(shape: ET.Element) -> Box:
    xs = _numbers(shape, *(f"x{corner}{side}" for corner in ("tl", "bl", "tr", "br") for side in (1, 2)))
    ys = _numbers(shape, *(f"y{corner}{side}" for corner in ("tl", "bl", "tr", "br") for side in (1, 2)))
    return bounds(list(zip(xs, ys, strict=True)))


def _points_of(shape: ET.Element) -> list[tuple[float, float]]:
    """Parse ``x,y;x,y``; a value that is not a number becomes NaN."""
    points = []
    for pair in (shape.get("points") or "").split(";"):
        x, _, y = pair.partition(",")
        values = number(x), number(y)
        if pair.strip():
            points.append((math.nan if values[0] is None else values[0], math.nan if values[1] is None else values[1]))
    return points


_KINDS: dict[str, Callable[[ET.Element], Box | None]] = {
    "box": _box,
    "polygon": _polygon,
    "polyline": _polygon,
    "ellipse": _ellipse,
    "mask": _mask,
    "cuboid": _cuboid,
    "skeleton": _skeleton,
    "points": _points,
}
"""Maps a shape to the function that returns its bounding box."""
