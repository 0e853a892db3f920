"""Compute bounding boxes for the shapes of VGG Image Annotator, in pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from visionops.data.formats.shapes import NO_BOX, Box, around, bounds, number

__all__ = ["BOXES"]


def _numbers(shape: dict[str, Any], *keys: str) -> list[float]:
    return [number(shape.get(key)) for key in keys]


def _rect(shape: dict[str, Any]) -> Box:
    x, y, width, height = _numbers(shape, "x", "y", "width", "height")
    return x, y, x + width, y + height


def _circle(shape: dict[str, Any]) -> Box:
    cx, cy, radius = _numbers(shape, "cx", "cy", "r")
    return around(cx, cy, radius, radius)


def _ellipse(shape: dict[str, Any]) -> Box:
    """Return the box of an ellipse with half axes, and from VIA 2.0.8 on an angle in radians."""
    cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry")
    theta = number(shape.get("theta", 0))
    if not all(map(math.isfinite, (rx, ry, theta))) or rx < 0 or ry < 0:
        return NO_BOX
    cos, sin = math.cos(theta), math.sin(theta)
    return around(cx, cy, math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos))


def _polygon(shape: dict[str, Any]) -> Box:
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys) or len(xs) < 3:
        return NO_BOX
    return bounds([(number(x), number(y)) for x, y in zip(xs, ys, strict=True)])


BOXES: dict[str, Callable[[dict[str, Any]], Box]] = {
    "rect": _rect,
    "circle": _circle,
    "ellipse": _ellipse,
    "polygon": _polygon,
}
"""Maps a shape to the function for its bounding box. Points, lines and polylines have none."""
