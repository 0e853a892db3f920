"""Check whether a person left a predicted label unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["TOLERANCE", "same_label"]

TOLERANCE = 1e-6
"""Largest difference of a box edge, as a share of the image's side, that still counts as equal: tools store percent."""


def same_label(one: Mapping[str, Any], other: Mapping[str, Any], width: int, height: int) -> bool:
    """Return whether two labels in a task's form are equal; the order of boxes does not count.

    Args:
        one: A label.
        other: Another of the same task.
        width: Pixels of the image.
        height: Pixels of the image.
    """
    if "boxes" not in one or "boxes" not in other:
        return dict(one) == dict(other)
    left = list(other["boxes"])
    if len(one["boxes"]) != len(left):
        return False
    for box in one["boxes"]:
        found = next((place for place, each in enumerate(left) if _same_box(box, each, width, height)), None)
        if found is None:
            return False
        del left[found]
    return True


def _same_box(one: Mapping[str, Any], other: Mapping[str, Any], width: int, height: int) -> bool:
    if one["class_name"] != other["class_name"]:
        return False
    edges: Sequence[tuple[float, float, int]] = list(zip(one["box"], other["box"], (width, height) * 2, strict=True))
    return all(abs(a - b) <= TOLERANCE * side for a, b, side in edges)
