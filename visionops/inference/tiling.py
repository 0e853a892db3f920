"""Where the tiles of a large image lie, and how their boxes become one answer.

Neighbours share pixels. An object there is found by both, and one that a border cuts is found in parts; each must come
out once. Two boxes are one object when they agree in the pixels that both tiles saw: clipped to these, their IoU is at
least one half. An object that one tile sees whole and the other cut agrees there, as do the two ends of one that is
longer than the overlap; a small object beside a large one, or inside it, does not, which intersection over the smaller
area (SAHI's rule: Akyon et al., Slicing aided hyper inference, 2022, and its library) takes for the same. Each tile has
told its own objects apart, so a merged object has at most one box of each tile; the pairs that agree best come first.

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

_AGREEMENT = 0.5
"""IoU in the shared pixels from which two boxes are one object: what also counts as found in evaluation."""
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
    spans = np.array(windows, dtype=np.float64).reshape(-1, 4)
    spans[:, 2:] += spans[:, :2]
    groups = _groups(_agreeing(boxes.astype(np.float64), class_ids, tiles, spans), tiles)
    cut = _cut(boxes, spans[tiles], spans[:, 2:].max(axis=0))
    merged_away = np.zeros(len(scores), dtype=np.bool_)
    for group in groups:
        best, *others = group[np.argsort(-scores[group], kind="stable")]
        whole = [row for row in (best, *others) if not cut[row]]
        around = np.hstack([boxes[group, :2].min(axis=0), boxes[group, 2:].max(axis=0)])
        boxes[best] = boxes[whole[0]] if whole else around
        merged_away[others] = True
    stay = np.flatnonzero(~merged_away)
    stay = stay[np.argsort(-scores[stay], kind="stable")][:max_detections]
    return boxes[stay], scores[stay], class_ids[stay]


def _agreeing(
    boxes: npt.NDArray[np.float64],
    class_ids: npt.NDArray[np.int32],
    tiles: npt.NDArray[np.int64],
    spans: npt.NDArray[np.float64],
) -> list[tuple[int, int]]:
    """Pairs of boxes of one class and two tiles that agree in what both tiles saw, the best first.

    Args:
        tiles: int64 (N,), the tile of each box.
        spans: float64 (tiles, 4), xyxy.
    """
    rows = [np.flatnonzero(tiles == tile) for tile in range(len(spans))]
    shared = np.concatenate(
        [np.maximum(spans[:, None, :2], spans[None, :, :2]), np.minimum(spans[:, None, 2:], spans[None, :, 2:])], axis=2
    )
    neighbours = (shared[..., 2:] > shared[..., :2]).all(axis=2)
    pairs: list[tuple[float, int, int]] = []
    for one, other in np.argwhere(np.triu(neighbours, 1)).tolist():
        a, b = rows[one], rows[other]
        if len(a) and len(b):
            agreement = _iou_inside(boxes[a], boxes[b], shared[one, other])
            i, j = np.nonzero((agreement >= _AGREEMENT) & (class_ids[a][:, None] == class_ids[b]))
            pairs += zip(agreement[i, j].tolist(), a[i].tolist(), b[j].tolist(), strict=True)
    pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [(i, j) for _, i, j in pairs]


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


def _groups(pairs: Sequence[tuple[int, int]], tiles: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Boxes that are one object: pairs joined in their order, as long as no two boxes of one tile come together."""
    groups: dict[int, list[int]] = {}
    for i, j in pairs:
        one, other = groups.get(i, [i]), groups.get(j, [j])
        if one is not other and not {*tiles[one].tolist()} & {*tiles[other].tolist()}:
            joined = one + other
            groups.update(dict.fromkeys(joined, joined))
    return [np.array(group) for group in {id(group): sorted(group) for group in groups.values()}.values()]


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
