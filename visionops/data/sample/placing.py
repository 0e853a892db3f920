"""Light defects and place each on the surface."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from visionops.data.sample.reliefs import RELIEFS, Defect, Relief
from visionops.data.sample.shapes import Map

__all__ = ["REFERENCE_SIZE", "Placed", "place_defects"]

REFERENCE_SIZE = 320  # all lengths below are in pixels of an image of this size
_MARGIN = 6.0
_GAP = 14.0
_VISIBLE = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """A lit defect on the surface; ``change`` and ``cover`` have the size of ``there``."""

    defect: Defect
    box: tuple[int, int, int, int]
    area: int
    there: tuple[slice, slice]
    """Rows and columns of the surface."""
    change: Map
    """Relative change of the brightness."""
    cover: Map
    tint: tuple[float, float, float]


def place_defects(rng: np.random.Generator, size: int, light: float, defects: Sequence[Defect]) -> list[Placed]:
    """Draw and light the defects, and place each, the large ones first.

    They keep a distance, so that no box is ambiguous. A defect that finds no room is left out.
    """
    scale = size / REFERENCE_SIZE
    drawn = []
    for defect in defects:
        relief = RELIEFS[defect](rng, scale, _largest_extent(len(defects)))
        change = relief.reflectance + np.float32(0.55) * _slope(relief.depth * np.float32(scale), light)
        drawn.append((defect, relief, change, _visible(change, relief)))
    placed: list[Placed] = []
    for defect, relief, change, visible in sorted(drawn, key=lambda item: -item[3].sum()):
        x1, y1, x2, y2 = _tight(visible)
        corner = _free_corner(rng, size, scale, (x2 - x1, y2 - y1), [item.box for item in placed])
        if corner is None:
            continue
        left, top = corner[0] - x1, corner[1] - y1
        # The blurred edge of a relief may extend over the border of the surface.
        rows = slice(max(0, -top), min(change.shape[0], size - top))
        columns = slice(max(0, -left), min(change.shape[1], size - left))
        placed.append(
            Placed(
                defect,
                box=(*corner, left + x2, top + y2),
                area=int(visible.sum()),
                there=(slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)),
                change=change[rows, columns],
                cover=relief.cover[rows, columns],
                tint=relief.tint,
            )
        )
    return placed


def _largest_extent(amount: int) -> float:
    """Return the largest extent of a defect for which ``amount`` of them find room."""
    return {1: 130.0, 2: 120.0, 3: 105.0}.get(amount, 95.0)


def _slope(depth: Map, light: float) -> Map:
    """Return the change of brightness: slopes facing the light gain, those turned away lose."""
    dx = cv2.Sobel(depth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    dy = cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    return np.asarray(np.clip(dx * math.cos(light) + dy * math.sin(light), -0.6, 0.6), np.float32)


def _tight(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return the bounding box of the set pixels: xyxy, x2 and y2 exclusive."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + w, y + h


def _visible(change: Map, relief: Relief) -> npt.NDArray[np.bool_]:
    """Return where any of R, G and B changes by more than a tenth: what a person would outline."""
    gains = [(1 + change) * (1 + relief.cover * np.float32(gain - 1)) for gain in relief.tint]
    return np.asarray(np.max(np.abs(np.stack(gains) - 1), axis=0) > _VISIBLE)


def _free_corner(
    rng: np.random.Generator,
    size: int,
    scale: float,
    extent: tuple[int, int],
    placed: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int] | None:
    """Return a random top-left corner away from the border and other defects, uniform; None if there is no room."""
    width, height = extent
    margin, gap = round(_MARGIN * scale), round(_GAP * scale)
    free = np.zeros((size, size), np.bool_)
    free[margin : max(margin, size - margin - height + 1), margin : max(margin, size - margin - width + 1)] = True
    for x1, y1, x2, y2 in placed:
        free[max(0, y1 - gap - height + 1) : y2 + gap, max(0, x1 - gap - width + 1) : x2 + gap] = False
    corners = np.flatnonzero(free)
    if not len(corners):
        return None
    y, x = divmod(int(rng.choice(corners)), size)
    return x, y
