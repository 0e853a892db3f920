"""Place the tiles of a large image, and merge their boxes into one answer.

Neighbouring tiles share pixels. Both find an object there, and an object that a border cuts is found in parts; each
must be reported once. Two boxes of a class agree when, clipped to the pixels of both tiles, their IoU is at least 0.4.
An object that is complete in one tile and cut in the other agrees there, as do the two ends of one longer than the
overlap. A small object beside a large one, or inside it, does not agree; intersection over the smaller area would merge
the two (SAHI's rule: Akyon et al., Slicing aided hyper inference, 2022, and its library).

Boxes join objects best score first. So a weak box cannot merge two objects, unless it is the piece between two pieces
that borders have cut.

See docs/decisions/010-tiles.md for the reasons.

>>> tile_windows(2456, 1176, Tiling(size=640, overlap=128))[4]
Window(x=1816, y=0, width=640, height=640)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionops.errors import ImageError
from visionops.inference.image import ImageProblem
from visionops.inference.preprocessing import Window
from visionops.inference.preprocessing_spec import Tiling

__all__ = ["WEAKEST_PART", "Detections", "merge_tiles", "tile_windows"]

Detections = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]
"""xyxy float32 (N, 4), scores float32 (N,), class ids int32 (N,); best first."""

WEAKEST_PART = 0.25
"""Share of an object's score that a box needs to change the object's box. A power of two, so exact in float."""

_AGREEMENT = 0.4
"""IoU in the shared pixels from which two boxes are one object. With one half, inexact edges of boxes would separate an
object of which a tile shows only a sliver."""
_COVER = 0.5
"""Share of each piece that a whole box must cover, because a part of a long object can look like a whole one."""
_TOUCH = 0.02
"""Distance to the border of its tile, in sides of the tile, below which a box counts as cut."""


def tile_windows(width: int, height: int, tiling: Tiling | None, *, where: str = "image") -> tuple[Window, ...]:
    """Return the tiles of an image, row by row; the whole image when it is no larger than a tile or there is no tiling.

    The last column and row are moved back into the image, so that no tile at the border is padded.

    Args:
        width: Width of the image in pixels.
        where: Source of the image for errors.

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


def merge_tiles(
    found: Sequence[Detections], windows: Sequence[Window], max_detections: int, *, confidence: float | None = None
) -> Detections:
    """Merge the detections of every tile into one answer that reports each object once.

    Best score first, each box joins the object with which it agrees best, or becomes a new object. This depends only on
    better boxes, so a lower threshold adds objects and removes none. A box never joins an object whose best box is in
    the same tile, because the NMS of that tile has kept both.

    An object has the score of its best box. Its box is its best one that no border of a tile cuts; when all are cut,
    the box around them. Boxes below ``WEAKEST_PART`` of its score do not change its box.

    A long object can have its best pieces at both ends. These are two objects until a weaker piece between them
    connects them. The better one then gets the box around all pieces. The other one is left out when ``confidence`` is
    given.
    Without it, it stays: at a higher threshold the connecting piece is missing, and both are reported.

    Args:
        found: Boxes of each tile in pixels of the image.
        windows: Windows of the tiles, in the same order. Another order gives the same answer.
        max_detections: Maximum number of objects; the best are kept.
        confidence: Objects that score no more are left out. ``found`` must contain all boxes above ``WEAKEST_PART *
            confidence``. The result then equals that of any lower confidence, without the objects that score no more.
    """
    boxes, scores, class_ids = (np.concatenate(column) for column in zip(*found, strict=True))
    tiles = np.repeat(np.arange(len(windows)), [len(part[1]) for part in found])
    spans = np.array(windows, dtype=np.float64).reshape(-1, 4)
    spans[:, 2:] += spans[:, :2]
    # Ties are ordered by the place of their tile, and within it by input order.
    order = np.lexsort((spans[tiles, 0], spans[tiles, 1], -scores))
    boxes, scores, class_ids, tiles = boxes[order], scores[order], class_ids[order], tiles[order]
    merging = _Merging(boxes, scores, tiles, _cut(boxes, spans[tiles], spans[:, 2:].max(axis=0)))
    merging.run(*_agreeing(boxes.astype(np.float64), class_ids, tiles, spans))
    reported = ~merging.has_joined
    if confidence is not None:
        reported[[row for row, known in merging.objects.items() if known.is_piece]] = False
        reported &= scores > np.float64(confidence)
    stay = np.flatnonzero(reported)[:max_detections]
    places = boxes[stay]
    for place, row in zip(places, stay.tolist(), strict=True):
        if row in merging.objects:
            parts = boxes[merging.objects[row].parts]
            place[:2], place[2:] = parts[:, :2].min(axis=0), parts[:, 2:].max(axis=0)
    return places, scores[stay], class_ids[stay]


def _agreeing(
    boxes: npt.NDArray[np.float64],
    class_ids: npt.NDArray[np.int32],
    tiles: npt.NDArray[np.int64],
    spans: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the pairs of boxes, of one class and two tiles, that agree in the pixels of both tiles.

    Args:
        tiles: int64 (N,), the tile of each box.
        spans: float64 (tiles, 4), xyxy.

    Returns:
        The later row of each pair, int64 (P,), ascending; the earlier row, int64 (P,); their agreement, float64 (P,).
    """
    rows = [np.flatnonzero(tiles == tile) for tile in range(len(spans))]
    shared = np.concatenate(
        [np.maximum(spans[:, None, :2], spans[None, :, :2]), np.minimum(spans[:, None, 2:], spans[None, :, 2:])], axis=2
    )
    neighbours = (shared[..., 2:] > shared[..., :2]).all(axis=2)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    agreements = [np.empty(0)]
    for one, other in np.argwhere(np.triu(neighbours, 1)).tolist():
        region = shared[one, other]
        a, b = (side[_reach_into(boxes[side], region)] for side in (rows[one], rows[other]))
        if len(a) and len(b):
            agreement = _iou_inside(boxes[a], boxes[b], region)
            i, j = np.nonzero((agreement >= _AGREEMENT) & (class_ids[a][:, None] == class_ids[b]))
            pairs.append(np.stack([np.maximum(a[i], b[j]), np.minimum(a[i], b[j])]))
            agreements.append(agreement[i, j])
    later, earlier = np.concatenate(pairs, axis=1)
    order = np.lexsort((earlier, later))
    return later[order], earlier[order], np.concatenate(agreements)[order]


def _reach_into(boxes: npt.NDArray[np.float64], region: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which boxes (N, 4) have pixels inside ``region`` (4,), bool (N,)."""
    return np.asarray(((boxes[:, :2] < region[2:]) & (boxes[:, 2:] > region[:2])).all(axis=1))


def _iou_inside(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], region: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the IoU (N, M) of the parts of boxes ``a`` (N, 4) and ``b`` (M, 4) inside ``region`` (4,), xyxy."""
    low, high = np.tile(region[:2], 2), np.tile(region[2:], 2)
    a, b = np.clip(a, low, high), np.clip(b, low, high)
    size = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    common = np.clip(size, 0, None).prod(axis=2)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None] + (b[:, 2:] - b[:, :2]).prod(axis=1) - common
    agreement: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return agreement


@dataclasses.dataclass(slots=True, eq=False)
class _Object:
    """An object from the boxes so far, which are given by their rows."""

    best: list[int]
    """Its best box, and the best boxes of objects that were merged into it."""
    parts: list[int]
    """Boxes that define its extent: a whole one, or the best one with cut pieces, one of each tile."""
    is_whole: bool
    is_piece: bool = False
    """Whether it was merged into a better object."""

    @property
    def speakers(self) -> list[int]:
        """Return the boxes that later ones are compared with."""
        return [*self.best[:1], *self.parts] if self.is_whole else self.parts


class _Merging:
    """Join boxes to objects, best first.

    Args:
        boxes: float32 (N, 4), xyxy, best score first.
        tiles: int64 (N,), the tile of each box.
        cut: bool (N,).
    """

    def __init__(
        self,
        boxes: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        tiles: npt.NDArray[np.int64],
        cut: npt.NDArray[np.bool_],
    ) -> None:
        self._boxes = boxes
        self._scores = scores.astype(np.float64)
        self._tiles = tiles.tolist()
        self._cut = cut
        self._speaks_for: dict[int, _Object] = {}
        self.objects: dict[int, _Object] = {}
        """Objects by the row of their best box: those with which another box agrees."""
        self.has_joined = np.zeros(len(boxes), dtype=np.bool_)
        """Boxes that are not objects of their own."""

    def run(
        self, later: npt.NDArray[np.int64], earlier: npt.NDArray[np.int64], agreements: npt.NDArray[np.float64]
    ) -> None:
        """Join boxes, given the result of `_agreeing`."""
        starts = np.flatnonzero(np.diff(later, prepend=-1))
        for start, end in itertools.pairwise([*starts.tolist(), len(later)]):
            row = int(later[start])
            if near := self._near(row, earlier[start:end].tolist(), agreements[start:end].tolist()):
                self.has_joined[row] = True
                self._learn(row, near[0], near[1:])

    def _near(self, row: int, earlier: list[int], agreements: list[float]) -> list[_Object]:
        """Return the objects to which a box can belong, the one with the best agreement first."""
        best: dict[_Object, float] = {}
        for other, agreement in zip(earlier, agreements, strict=True):
            known = self._object_of(other)
            if known is not None and not self._is_kept_apart(row, known):
                best[known] = max(agreement, best.get(known, 0.0))
        return sorted(best, key=lambda known: (-best[known], known.best[0]))

    def _object_of(self, row: int) -> _Object | None:
        """Return the object that a box represents."""
        if not self.has_joined[row] and row not in self.objects:
            self.objects[row] = self._speaks_for[row] = _Object([row], [row], not self._cut[row])
        return self._speaks_for.get(row)

    def _is_kept_apart(self, row: int, known: _Object) -> bool:
        """Return whether the NMS of the box's tile has kept both the box and one of the object's boxes."""
        rows = (*known.best, *known.parts) if known.is_whole else known.best
        return any(self._tiles[row] == self._tiles[other] for other in rows)

    def _learn(self, row: int, known: _Object, others: Sequence[_Object]) -> None:
        """Extend an object by a box that joins it, and merge other objects of which the box is also a part."""
        if not self._can_extend(row, known):
            return
        better = known
        tiles = self._tiles_of(known)
        for other in others:
            if self._can_extend(row, other) and not tiles & self._tiles_of(other):
                tiles |= self._tiles_of(other)
                better = self._unite(*sorted((better, other), key=lambda one: one.best[0]))
        if self._cut[row]:
            better.parts.append(row)
        else:
            for part in better.parts:
                del self._speaks_for[part]
            better.parts, better.is_whole = [row], True
        for part in better.speakers:
            self._speaks_for[part] = better

    def _can_extend(self, row: int, known: _Object) -> bool:
        """Return whether a box can be a further piece of an object that is known only in pieces, or the whole of it."""
        if known.is_whole or self._scores[row] < WEAKEST_PART * self._scores[known.best[0]]:
            return False
        if self._tiles[row] in self._tiles_of(known):
            return False
        return bool(self._cut[row]) or all(self._covers(row, piece) for piece in known.parts)

    def _unite(self, better: _Object, worse: _Object) -> _Object:
        worse.is_piece = True
        better.best += worse.best
        better.parts = better.parts + worse.parts
        for part in worse.parts:
            self._speaks_for[part] = better
        return better

    def _tiles_of(self, known: _Object) -> set[int]:
        return {self._tiles[row] for row in known.parts}

    def _covers(self, row: int, piece: int) -> bool:
        (x1, y1, x2, y2), (left, top, right, bottom) = self._boxes[row].tolist(), self._boxes[piece].tolist()
        common = max(min(x2, right) - max(x1, left), 0.0) * max(min(y2, bottom) - max(y1, top), 0.0)
        return bool(common >= _COVER * (right - left) * (bottom - top))


def _cut(
    boxes: npt.NDArray[np.float32], spans: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return which boxes (N, 4) a border of their tile cuts, bool (N,); the border of the image does not count.

    Args:
        spans: float64 (N, 4), the tile of each box, xyxy.
        end: Width and height of the image.
    """
    reach = _TOUCH * (spans[:, 2:] - spans[:, :2])
    before = (spans[:, :2] > 0) & (boxes[:, :2] < spans[:, :2] + reach)
    behind = (spans[:, 2:] < end) & (boxes[:, 2:] > spans[:, 2:] - reach)
    return np.asarray((before | behind).any(axis=1))
