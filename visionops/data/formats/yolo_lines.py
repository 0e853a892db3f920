"""Read lines of YOLO label files: boxes, polygons, key points, and lines that only look like them.

A single line is ambiguous: nine values are a polygon of four points or an oriented box, fifteen are a polygon or a box
with key points. The common properties of all lines in a data set resolve this.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import Assembly, examples
from visionops.data.formats.yolo_layouts import ORIENTED, Layout
from visionops.errors import AnnotationError

__all__ = ["LabelLines", "is_dota", "looks_like_labels"]

_MAX_FRACTION = 2.0
"""Maximum fraction: boxes may extend slightly over the border; a larger number is a pixel."""
_MOST_FINDINGS = 20
"""Maximum number of lines with the same problem to report one by one; more share a finding."""
_FEWEST_POSES = 3
"""Minimum number of lines that must look like key points before they do not count as polygons."""
_CORNERS = 9
"""Number of values in a line with a class and four corners."""
_TRACKED = 6
"""Number of values in a line with a box and a confidence or the number of a track."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_SEPARATORS = re.compile(r"[,;\s]+")
_DOTA_VALUES = (9, 10)
"""Number of values in DOTA's lines: eight coordinates, a class and, mostly, a difficulty."""


class _Place(NamedTuple):
    """A line of an image."""

    row: int
    where: str


class _Held(NamedTuple):
    """A line with six values; such lines are judged together."""

    place: _Place
    values: list[float]
    last: str
    size: tuple[int, int]


def looks_like_labels(lines: Iterable[str]) -> bool:
    """Return whether text lines are a class number and at least four other numbers; False if there are none."""
    rows = [values for line in lines if (values := _split(line))]
    return bool(rows) and all(
        len(row) >= 5 and isinstance(numbers := _numbers(row), list) and numbers[0] >= 0 and numbers[0] % 1 == 0
        for row in rows
    )


def is_dota(lines: Iterable[str]) -> bool:
    """Return whether lines are DOTA's: eight coordinates in pixels, a class name and a difficulty."""
    rows = [line.split() for line in lines if line.strip() and not line.startswith(("imagesource:", "gsd:"))]
    return bool(rows) and all(
        len(row) in _DOTA_VALUES and isinstance(_numbers(row[:8]), list) and isinstance(_numbers(row[8:9]), str)
        for row in rows
    )


class LabelLines:
    """The lines of all label files. Their common properties are judged after all are read."""

    def __init__(self, assembly: Assembly, layout: Layout) -> None:
        self.assembly = assembly
        self.layout = layout
        self.class_ids = {n: assembly.classes.id_of(name, layout.file) for n, name in layout.names.items()}
        self._note_copies()
        self.polygons = 0
        self.poses = 0
        self._places: list[_Place] = []
        self._numbers: list[int] = []
        self._boxes: list[tuple[float, float, float, float]] = []
        self._problems: dict[str, list[tuple[_Place, str]]] = {}
        self._unknown: list[tuple[_Place, int]] = []
        self._held: list[_Held] = []
        self._shapes = _Shapes()

    def _note_copies(self) -> None:
        first: dict[str, int] = {}
        for number, name in self.layout.names.items():
            if first.setdefault(name, number) != number:
                self.assembly.notes.append(
                    f"{self.layout.file}: classes {first[name]} and {number} are both {name!r} and are merged."
                )

    def read(self, row: int, file: str, lines: Iterable[str], size: tuple[int, int]) -> None:
        """Add the lines of one label file.

        Args:
            row: Row of the image.
            file: Name of the file in messages.
            lines: Lines of its text.
            size: Width and height of the image, in pixels.
        """
        for number, line in enumerate(lines, start=1):
            parts = _split(line)
            if parts:
                self._read_line(_Place(row, f"{file}:{number}"), parts, size)

    def finish(self) -> None:
        """Add the boxes, findings and notes to the data set.

        Raises:
            AnnotationError: Every line is an oriented box, or has key points that no ``kpt_shape`` announces.
        """
        self._shapes.refuse(self.layout, self.assembly)
        self._settle_held()
        self._report()
        self.assembly.add_boxes(
            np.array([place.row for place in self._places], np.int64),
            np.array([self.class_ids[number] for number in self._numbers], np.int32),
            np.array(self._boxes, np.float64).reshape(-1, 4),
            [place.where for place in self._places],
        )
        if self.polygons:
            self.assembly.notes.append(f"{counted(self.polygons, 'polygon')} read as bounding boxes.")
        if self.poses:
            self.assembly.notes.append(f"{counted(self.poses, 'box', 'boxes')} read without their key points.")

    def _read_line(self, place: _Place, parts: list[str], size: tuple[int, int]) -> None:
        values = _numbers(parts)
        keypoints = self.layout.keypoints
        problem = values if isinstance(values, str) else _problem_with(values, keypoints)
        if isinstance(values, str) or problem:
            if isinstance(values, list):
                self._shapes.add(values, size, place.where)
            self._problem(place, problem)
        elif len(values) == _TRACKED:
            self._held.append(_Held(place, values, parts[5], size))
        elif len(values) == 5 or keypoints:
            self.poses += len(values) > 5
            self._shapes.boxes += 1
            self._add_box(place, values, size)
        else:
            self.polygons += 1
            self._shapes.add(values, size, place.where)
            xs, ys = values[1::2], values[2::2]
            self._add(place, values[0], (min(xs), min(ys), max(xs), max(ys)), size)

    def _problem(self, place: _Place, problem: str) -> None:
        self._problems.setdefault(problem.partition(" (")[0], []).append((place, problem))

    def _add_box(self, place: _Place, values: Sequence[float], size: tuple[int, int]) -> None:
        cx, cy, w, h = values[1:5]
        self._add(place, values[0], (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), size)

    def _add(self, place: _Place, number: float, box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
        if int(number) not in self.class_ids:
            self._unknown.append((place, int(number)))
            return
        width, height = size
        self._places.append(place)
        self._numbers.append(int(number))
        self._boxes.append((box[0] * width, box[1] * height, box[2] * width, box[3] * height))

    def _settle_held(self) -> None:
        """Distinguish numbers of tracks, which are integers above 1, from confidences."""
        tracks = all(held.last.isdigit() for held in self._held) and any(held.values[5] > 1 for held in self._held)
        for held in self._held:
            if tracks:
                self._add_box(held.place, held.values, held.size)
            else:
                self._problem(
                    held.place,
                    "6 values: the sixth is a confidence, so these are predictions, not labels; expected class cx cy "
                    "width height",
                )
        if tracks and self._held:
            self.assembly.notes.append(
                f"{counted(len(self._held), 'box', 'boxes')} read without the number of a track."
            )

    def _report(self) -> None:
        for problem, lines in self._problems.items():
            if len(lines) <= _MOST_FINDINGS:
                for place, message in lines:
                    self._found(Code.BAD_BOX, f"{message}; correct or remove it", [place])
            else:
                self._found(Code.BAD_BOX, f"{problem}; correct or remove it", [place for place, _ in lines])
        numbers = sorted({number for _, number in self._unknown})
        if not numbers:
            return
        known = f"not in 'names' of {self.layout.file}"
        if self._counts_from_one(numbers):
            message = (
                f"class {numbers[0]} is {known}, and class 0 has no line: the labels seem to count from 1; number the "
                "classes from 0"
            )
            self._found(Code.UNKNOWN_CATEGORY, message, [place for place, _ in self._unknown])
        elif len(self._unknown) <= _MOST_FINDINGS:
            for place, number in self._unknown:
                message = f"class {number} is {known}; add it or remove the line"
                self._found(Code.UNKNOWN_CATEGORY, message, [place])
        else:
            what = f"class {numbers[0]} is" if len(numbers) == 1 else f"classes {examples(map(str, numbers))} are"
            message = f"{what} {known}; add them or remove the lines"
            self._found(Code.UNKNOWN_CATEGORY, message, [place for place, _ in self._unknown])

    def _counts_from_one(self, unknown: list[int]) -> bool:
        count = len(self.class_ids)
        return unknown == [count] and set(self.class_ids) == set(range(count)) and 0 not in self._numbers

    def _found(self, code: Code, message: str, places: Collection[_Place]) -> None:
        keys = tuple(dict.fromkeys(self.assembly.keys[place.row] for place in places))
        also = f" ({counted(len(places), 'line')} of {counted(len(keys), 'image')})" if len(places) > 1 else ""
        self.assembly.found(code, next(iter(places)).where, message + also, keys)


@dataclasses.dataclass
class _Shapes:
    """Common properties of lines with more than a box."""

    boxes: int = 0
    """Lines with only a box: if there are any, the others are polygons."""
    count: int = 0
    length: int = 0
    first: str = ""
    mixed: bool = False
    tilted: int = 0
    tilted_rectangles: int = 0
    enclosing: int = 0
    """Lines whose first four values are a box that contains all points after them."""
    poses: int = 0
    """Enclosing lines that are unlikely to be polygons."""
    marked: int = 0
    """Enclosing lines whose points have a visibility of 0, 1 or 2."""

    def add(self, values: list[float], size: tuple[int, int], where: str) -> None:
        """Add one line; lines with faults other than their number of values are ignored."""
        if self.mixed or self.boxes or not all(abs(value) <= _MAX_FRACTION for value in values[1:]):
            return
        if self.length not in (0, len(values)):
            self.mixed = True
            return
        self.first = self.first or where
        self.length = len(values)
        self.count += 1
        if len(values) == _CORNERS:
            quad = np.array(values[1:]).reshape(4, 2) * size
            if not _is_upright(quad):
                self.tilted += 1
                self.tilted_rectangles += _is_rectangle(quad)
        self._look_for_points(values)

    def _look_for_points(self, values: list[float]) -> None:
        if len(values) <= _TRACKED or min(values[3:5]) <= 0:
            return
        cx, cy, w, h = values[1:5]
        rest = values[5:]
        if len(rest) % 3 == 0 and set(rest[2::3]) <= {0.0, 1.0, 2.0} and any(rest[2::3]):
            seen = [(x, y) for x, y, v in zip(rest[0::3], rest[1::3], rest[2::3], strict=True) if v]
            self.marked += _holds((cx, cy, w, h), seen)
        if len(rest) % 2 or len(rest) < 4:
            return
        points = [(x, y) for x, y in zip(rest[0::2], rest[1::2], strict=True) if x or y]
        if points and _holds((cx, cy, w, h), points):
            self.enclosing += 1
            self.poses += _is_no_outline((cx, cy, w, h), points)

    def refuse(self, layout: Layout, assembly: Assembly) -> None:
        """Raise if the lines are neither boxes nor polygons.

        Raises:
            AnnotationError: All lines are of such a kind.
        """
        if self.mixed or self.boxes or not self.count:
            return
        file = assembly.listing.path(layout.file)
        named = self.tilted and layout.is_oriented
        if self.length == _CORNERS and self.tilted and (named or 2 * self.tilted_rectangles >= self.tilted):
            label = assembly.listing.path(self.first.rpartition(":")[0])
            raise AnnotationError(f"{label}: the lines are {ORIENTED}")
        if self.count < _FEWEST_POSES or layout.keypoints:
            return
        per_point = 3 if self.marked == self.count else 2 if self._mostly_poses() else 0
        if per_point:
            number = (self.length - 5) // per_point
            raise AnnotationError(
                f"{file}: the lines ({self.first}) look like a box with key points, not like polygons; add kpt_shape: "
                f"[{number}, {per_point}] to data.yaml, or export boxes"
            )

    def _mostly_poses(self) -> bool:
        return self.enclosing >= 0.98 * self.count and self.poses >= 0.8 * self.count


def _split(line: str) -> list[str]:
    """Split a line into its values at spaces or tabs, commas or semicolons."""
    parts = line.split()
    if "," not in line and ";" not in line:
        return parts
    if any(_DECIMAL_COMMA.fullmatch(part) for part in parts):
        return parts  # 0,5 is a half in much of Europe: it is refused as not a number
    return [part for part in _SEPARATORS.split(line) if part] or parts


def _numbers(parts: Sequence[str]) -> list[float] | str:
    try:
        return [float(part) for part in parts]
    except ValueError:
        comma = any("," in part for part in parts)
        return f"not all values are numbers{', which take a point, not a comma' if comma else ''}"


def _problem_with(numbers: list[float], keypoints: tuple[int, int] | None) -> str:
    count = len(numbers)
    if keypoints:
        allowed = 5 + keypoints[0] * keypoints[1]
        if count not in (5, allowed):
            return f"{count} values; kpt_shape expects {allowed}: class cx cy width height and the key points"
    elif count < 5 or (count % 2 == 0 and count != _TRACKED):
        return f"{count} values; expected class cx cy width height, or class and the points of a polygon"
    if not all(map(math.isfinite, numbers)):
        return "a value is not finite"
    if numbers[0] != int(numbers[0]):
        return f"the class is not a whole number ({numbers[0]:g})"
    is_box = count in (5, _TRACKED) or keypoints is not None
    limited = numbers[1:5] if is_box else numbers[1:]
    if max(map(abs, limited)) > _MAX_FRACTION:
        return "values must be fractions of the image, 0 to 1, not pixels or percent"
    return "width or height is negative" if is_box and min(numbers[3:5]) < 0 else ""


def _holds(box: tuple[float, float, float, float], points: Collection[tuple[float, float]]) -> bool:
    """Return whether points are inside a box of centre and size, or within 5 % beyond its edges."""
    cx, cy, w, h = box
    across, down = w / 2 * 1.05 + 1e-6, h / 2 * 1.05 + 1e-6
    return all(abs(x - cx) <= across and abs(y - cy) <= down for x, y in points)


def _is_no_outline(box: tuple[float, float, float, float], points: Collection[tuple[float, float]]) -> bool:
    """Return whether four values before points are the centre and size of a box, not corners of the same outline.

    A corner is at the edge of the other corners' extent, the centre in its middle; a size, read as a corner, is
    mostly far away from the others.
    """
    cx, cy, w, h = box
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    wide, high = right - left, bottom - top
    central = 0.2 * wide < cx - left < 0.8 * wide and 0.2 * high < cy - top < 0.8 * high
    away = math.hypot(max(left - w, 0.0, w - right), max(top - h, 0.0, h - bottom))
    return central or away > 1.5 * math.hypot(wide, high) > 0


def _is_rectangle(quad: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    """Return whether four corners, in pixels, form a rectangle at any angle, to half a pixel or 2 %."""
    slack = max(0.5, 0.02 * float(np.ptp(quad, axis=0).max()))
    diagonals = np.linalg.norm(quad[0] - quad[2]), np.linalg.norm(quad[1] - quad[3])
    return bool(np.abs(quad[0] + quad[2] - quad[1] - quad[3]).max() <= 2 * slack) and bool(
        abs(diagonals[0] - diagonals[1]) <= slack
    )


def _is_upright(quad: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    low, high = quad.min(axis=0), quad.max(axis=0)
    return bool((np.minimum(np.abs(quad - low), np.abs(quad - high)) <= 1.0).all())
