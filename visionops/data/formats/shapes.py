"""Convert shapes of JSON annotation tools to their bounding boxes, and count what is not read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from visionops.data.findings import Code, counted
from visionops.data.formats.assembly import Assembly, examples

__all__ = ["NO_BOX", "Box", "ShapeCounts", "around", "bounds", "number", "points_of", "printable"]

Box = tuple[float, float, float, float]
"""Corners x1, y1, x2, y2 in pixels."""

NO_BOX: Box = (math.nan,) * 4
"""Box for invalid numbers; `Assembly.add_box` reports it."""


def number(value: Any) -> float:
    """Return a JSON value as a float; NaN if it is not a number, infinite if it is too large."""
    if type(value) is float:
        return value
    if type(value) is not int:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def points_of(value: Any) -> list[tuple[float, float]]:
    """Return ``[[x, y], …]`` as pairs, with NaN for values that are not numbers; no points if it is not a list."""
    if not isinstance(value, list):
        return []
    return [
        (number(point[0]), number(point[1])) if isinstance(point, list) and len(point) >= 2 else (math.nan, math.nan)
        for point in value
    ]


def bounds(points: Sequence[tuple[float, float]]) -> Box:
    """Return the bounding box of points; `NO_BOX` if there are none, or one is not finite."""
    if not points:
        return NO_BOX
    xs, ys = zip(*points, strict=True)
    if not all(map(math.isfinite, xs)) or not all(map(math.isfinite, ys)):
        return NO_BOX
    return min(xs), min(ys), max(xs), max(ys)


def around(cx: float, cy: float, half_x: float, half_y: float) -> Box:
    """Return the box with a centre and half its width and height."""
    return cx - half_x, cy - half_y, cx + half_x, cy + half_y


def printable(name: str) -> str:
    """Return a name from the disk as storable text: bytes that are not Unicode are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


class ShapeCounts:
    """Counts the shapes that become their bounding box, and those that are left out."""

    def __init__(self) -> None:
        self.bounded: Counter[str] = Counter()
        """Number of shapes by kind whose bounding box is read."""
        self.left_out: Counter[str] = Counter()
        """Number of shapes by kind that have no box."""

    def add_notes(self, notes: list[str]) -> None:
        """Add a note for each of the two counts that is not empty."""
        if self.bounded:
            notes.append(f"Shapes read as the upright box around them: {_list(self.bounded)}.")
        if self.left_out:
            notes.append(f"Shapes that have no box are left out: {_list(self.left_out)}.")

    @staticmethod
    def report_bare(assembly: Assembly, keys: Iterable[str]) -> None:
        """Add a finding for images with only shapes without a box, which are to be left out."""
        names = tuple(keys)
        if names:
            assembly.found(
                Code.CROWD_ONLY,
                counted(len(names), "image"),
                f"only points or lines, left out, as they would count as background: {examples(names, 12)}; "
                "draw boxes or remove the images",
                names,
            )


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {kind}" for kind, count in sorted(counts.items()))
