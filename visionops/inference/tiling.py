"""Where the tiles of a large image lie, and how their boxes become one answer.

Neighbours share pixels. An object there is found by both, and one that a border cuts is found in parts; each must come
out once. Two boxes of a class are one object when they agree in the pixels that both tiles saw: clipped to these, their
IoU is at least 0.4. An object that one tile sees whole and the other cut agrees there, as do the two ends of one longer
than the overlap; a small object beside a large one, or inside it, does not, which intersection over the smaller area
(SAHI's rule: Akyon et al., Slicing aided hyper inference, 2022, and its library) takes for the same. With itself a tile
shares all of its pixels, so that two boxes are one object or two wherever the borders lie.

The decision is told in docs/decisions/010-tiles.md.

>>> tile_windows(2456, 1176, Tiling(size=640, overlap=128))[4]
Window(x=1816, y=0, width=640, height=640)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionops.errors import ImageError
from visionops.inference.image import ImageProblem
from visionops.inference.preprocessing import Tiling, Window

__all__ = ["Detections", "merge_tiles", "tile_windows"]

Detections = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]
"""xyxy float32 (N, 4), scores float32 (N,), class ids int32 (N,); best first."""

_AGREEMENT = 0.4
"""IoU in the shared pixels from which two boxes are one object; at one half, the inexact edges of boxes tell apart what
is one where a tile sees but a sliver."""
_TOUCH = 0.02
"""A box that comes so close to the border of its tile, in sides of the tile, is taken for cut by it."""


def tile_windows(width: int, height: int, tiling: Tiling | None, *, where: str = "image") -> tuple[Window, ...]:
    """The tiles of an image, row by row; the image as a whole when it is no larger than a tile or there are none.

    The last column and row are moved back inside the image: no tile is padded for being at the border.

    Args:
        width: Of the image, pixels.
        where: Named in the error.

    Raises:
        ImageError: The image takes more than ``tiling.max_tiles``.
    """
    if tiling is None:
        return (Window(0, 0, width, height),)
    across, down = (_starts(side, tiling) for side in (width, height))
    if len(across) * len(down) > tiling.max_tiles:
        raise ImageError(
            f"{where}: {width} x {height} pixels take {len(across) * len(down)} tiles of {tiling.size}, over the "
            f"model's limit of {tiling.max_tiles}; give a smaller image",
            ImageProblem.TOO_LARGE,
        )
    size = (min(tiling.size, width), min(tiling.size, height))
    return tuple(Window(x, y, *size) for y, x in itertools.product(down, across))


def _starts(side: int, tiling: Tiling) -> list[int]:
    last = max(side - tiling.size, 0)
    return [*range(0, last, tiling.size - tiling.overlap), last]


def merge_tiles(found: Sequence[Detections], windows: Sequence[Window], max_detections: int) -> Detections:
    """One answer out of the detections of every tile: each object once.

    A merged object has the best score of its boxes. Its place is the best-scored box that no border of a tile cuts;
    when all are cut, the box around them.

    Args:
        found: Per tile, boxes in pixels of the image.
        windows: Of the tiles, in the same order.
        max_detections: The best so many stay.
    """
    boxes, scores, class_ids = (np.concatenate(column) for column in zip(*found, strict=True))
    tiles = np.repeat(np.arange(len(windows)), [len(part[1]) for part in found])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, class_ids, tiles = boxes[order], scores[order], class_ids[order], tiles[order]
    spans = np.array(windows, dtype=np.float64).reshape(-1, 4)
    spans[:, 2:] += spans[:, :2]
    cut = _cut(boxes, spans[tiles], spans[:, 2:].max(axis=0))
    best = _best_of_object(len(boxes), *_agreeing(boxes.astype(np.float64), class_ids, tiles, spans))
    stay = np.unique(best)[:max_detections]
    places = boxes[stay]
    for place, row in zip(places, stay, strict=True):
        group = np.flatnonzero(best == row)
        whole = group[~cut[group]]
        if len(whole):
            place[:] = boxes[whole[0]]
        else:
            place[:2], place[2:] = boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)
    return places, scores[stay], class_ids[stay]


def _agreeing(
    boxes: npt.NDArray[np.float64],
    class_ids: npt.NDArray[np.int32],
    tiles: npt.NDArray[np.int64],
    spans: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the boxes of one class that agree in what both their tiles saw: one of each pair, and the other.

    Args:
        tiles: int64 (N,), the tile of each box.
        spans: float64 (tiles, 4), xyxy.
    """
    rows = [np.flatnonzero(tiles == tile) for tile in range(len(spans))]
    shared = np.concatenate(
        [np.maximum(spans[:, None, :2], spans[None, :, :2]), np.minimum(spans[:, None, 2:], spans[None, :, 2:])], axis=2
    )
    neighbours = (shared[..., 2:] > shared[..., :2]).all(axis=2)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for one, other in np.argwhere(np.triu(neighbours)).tolist():
        a, b = rows[one], rows[other]
        if len(a) and len(b):
            agreement = _iou_inside(boxes[a], boxes[b], shared[one, other])
            i, j = np.nonzero((agreement >= _AGREEMENT) & (class_ids[a][:, None] == class_ids[b]))
            pairs.append(np.stack([a[i], b[j]]))
    one_of_each, other_of_each = np.concatenate(pairs, axis=1)
    return one_of_each, other_of_each


def _iou_inside(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], region: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """IoU (N, M) of what boxes ``a`` (N, 4) and ``b`` (M, 4) have inside ``region`` (4,), xyxy."""
    low, high = np.tile(region[:2], 2), np.tile(region[2:], 2)
    a, b = np.clip(a, low, high), np.clip(b, low, high)
    size = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    common = np.clip(size, 0, None).prod(axis=2)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None] + (b[:, 2:] - b[:, :2]).prod(axis=1) - common
    agreement: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return agreement


def _best_of_object(count: int, i: npt.NDArray[np.int64], j: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first of the rows, int64 (count,), that each row is connected with by pairs ``i[k]``, ``j[k]``."""
    first = np.arange(count)
    while True:
        before = first.copy()
        np.minimum.at(first, i, before[j])
        np.minimum.at(first, j, before[i])
        first = first[first]
        if np.array_equal(first, before):
            return first


def _cut(
    boxes: npt.NDArray[np.float32], spans: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Which boxes (N, 4) a border of their tile cuts, bool (N,); where the image ends, nothing is cut.

    Args:
        spans: float64 (N, 4), the tile of each box, xyxy.
        end: Width and height of the image.
    """
    reach = _TOUCH * (spans[:, 2:] - spans[:, :2])
    before = (spans[:, :2] > 0) & (boxes[:, :2] < spans[:, :2] + reach)
    behind = (spans[:, 2:] < end) & (boxes[:, 2:] > spans[:, 2:] - reach)
    return np.asarray((before | behind).any(axis=1))
