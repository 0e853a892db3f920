"""Find boxes in another convention than the format's: fractions, swapped axes, corners for sizes, or counted from one.

Each check looks for a pattern over all boxes that is very unlikely by chance. Findings are reported and never
corrected: only people know which tool wrote the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.findings import Code, Finding, counted

__all__ = ["suspect_coordinates"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_FEWEST = 3
"""Minimum number of boxes that must show a pattern."""
_SHARE = 0.1
"""Minimum share of all boxes that must contradict the format's reading."""
_NEARLY_ALL = 0.99
"""Minimum share of all boxes that the other reading must fit."""
_SLACK = 1.0
"""Pixels that an inaccurate box may extend over the border."""


def suspect_coordinates(
    keys: Sequence[str], rows: npt.NDArray[np.int64], boxes: Floats, sizes: npt.NDArray[Any]
) -> Iterator[Finding]:
    """Find patterns of wrong coordinates.

    Args:
        keys: Keys of the images.
        rows: Image row of each box, int64 (M,).
        boxes: Finite xyxy in pixels, float64 (M, 4).
        sizes: Width and height of each box's image, (M, 2), above zero.
    """
    for what, fix, which in _patterns(boxes, np.asarray(sizes, np.float64)):
        found = np.flatnonzero(which)
        images = tuple(dict.fromkeys(keys[rows[box]] for box in found.tolist()))
        x1, y1, x2, y2 = boxes[found[0]]
        message = (
            f"{counted(len(found), 'box', 'boxes')} of {len(boxes):,} {what}, such as "
            f"({x1:.4g}, {y1:.4g}, {x2:.4g}, {y2:.4g}) in {images[0]}; {fix}"
        )
        yield Finding.of(Code.SUSPECT_COORDINATES, "boxes", message, images)


def _patterns(boxes: Floats, sizes: Floats) -> Iterator[tuple[str, str, Mask]]:
    within_a_pixel = (boxes[:, 2:] <= 1).all(axis=1) & (sizes >= 8).all(axis=1)
    fractions = within_a_pixel & (boxes != np.round(boxes)).any(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if fractions.any():
        yield "lie within the first pixel", "are they fractions of the image? write all boxes in pixels", fractions
    outside = ~_fits(boxes, sizes)
    if outside.sum() < _FEWEST or outside.mean() < _SHARE:
        yield from _counted_from_one(boxes, sizes)
        return
    if _fits(boxes[:, [1, 0, 3, 2]], sizes).mean() >= _NEARLY_ALL:
        yield "fit their image only with x and y swapped", "export them as x, y", outside
        return
    corners = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    ordered = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    if (_fits(corners, sizes) & ordered).mean() >= _NEARLY_ALL:
        fix = "export them as x, y, width, height"
        yield "fit their image only as x1, y1, x2, y2, though the format has x, y, width, height", fix, outside


def _counted_from_one(boxes: Floats, sizes: Floats) -> Iterator[tuple[str, str, Mask]]:
    over = ((boxes[:, 2:] - sizes) == 1).any(axis=1)
    if over.sum() >= _FEWEST and (boxes[:, :2] >= 1).all() and ((boxes[:, 2:] - sizes) <= 1).all():
        yield "end one pixel beyond the image and none begins at 0", "subtract 1 if they count from one", over


def _fits(boxes: Floats, sizes: Floats) -> Mask:
    inside = (boxes[:, :2] >= -_SLACK) & (boxes[:, 2:] <= sizes + _SLACK)
    return np.asarray(inside.all(axis=1))
