"""Run non-maximum suppression: per class, greedy, best score first, in float32 as torchvision computes it.

Ultralytics keeps classes apart by adding 7680 pixels per class id to the boxes. In float32 that rounds the boxes, from
class 300 on by up to an eighth of a pixel, so an overlap near the threshold can fall on the wrong side. Here boxes stay
unchanged and classes are compared instead, so the result does not depend on class ids.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["iou_matrix", "suppress"]

_MAX_CANDIDATES = 30_000
_CHUNK = 256
"""Number of candidates compared at once, which bounds the IoU matrix and the work after ``max_detections`` are
found."""


def suppress(
    xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32],
    iou: float,
    max_detections: int,
) -> npt.NDArray[np.int64]:
    """Return the boxes that are kept.

    Args:
        xyxy: float32 (N, 4), any unit.
        scores: float32 (N,).
        class_ids: int32 (N,). Boxes of different classes do not suppress each other.
        iou: Overlap with a better box of the same class above which a box is dropped.

    Returns:
        Rows that are kept, int64, best score first; equal scores in their input order. At most ``max_detections``.
    """
    order = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    xyxy, class_ids = xyxy[order], class_ids[order]
    one_class = not len(order) or bool((class_ids == class_ids[0]).all())
    limit = np.float64(iou)  # a Python float would be rounded to float32 first

    def overlapping(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        pairs: npt.NDArray[np.bool_] = iou_matrix(xyxy[a], xyxy[b]) > limit
        if not one_class:
            pairs &= class_ids[a][:, None] == class_ids[b]
        return pairs

    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(order), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(order)))
        if len(kept):
            rows = rows[~overlapping(rows, kept).any(axis=1)]
        kept = np.concatenate([kept, rows[_greedy(overlapping(rows, rows))]])
        if len(kept) >= max_detections:
            break
    stay: npt.NDArray[np.int64] = order[kept[:max_detections]]
    return stay


def _greedy(overlaps: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the candidates, best first, that are kept, given which pairs overlap too much."""
    alive = np.ones(len(overlaps), dtype=np.bool_)
    for row in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if alive[row]:
            alive[row + 1 :] &= ~overlaps[row, row + 1 :]
    return alive


def iou_matrix(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the intersection over union of all boxes ``a`` (N, 4) with all boxes ``b`` (M, 4): float32 (N, M)."""
    shared = _shared_length(a[:, 0], a[:, 2], b[:, 0], b[:, 2])
    shared *= _shared_length(a[:, 1], a[:, 3], b[:, 1], b[:, 3])
    union = _areas(a)[:, None] + _areas(b)[None, :] - shared
    with np.errstate(invalid="ignore"):  # two boxes without area give 0 / 0, which is above no threshold
        overlap: npt.NDArray[np.float32] = shared / union
    return overlap


def _shared_length(
    a_low: npt.NDArray[np.float32],
    a_high: npt.NDArray[np.float32],
    b_low: npt.NDArray[np.float32],
    b_high: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Return how much of an axis the spans ``a`` (N,) and ``b`` (M,) share: float32 (N, M)."""
    shared: npt.NDArray[np.float32] = np.minimum(a_high[:, None], b_high) - np.maximum(a_low[:, None], b_low)
    return np.maximum(shared, 0, out=shared)


def _areas(xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    area: npt.NDArray[np.float32] = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return area
