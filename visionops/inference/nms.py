"""Non-maximum suppression, as the trainer does it.

Per class, greedy, best score first. Classes are kept apart by an offset, in float32 like the trainer's own: in another
arithmetic a pair of boxes at the threshold would be kept by one and dropped by the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["iou_matrix", "suppress"]

_CLASS_OFFSET = np.float32(7680)
"""Pixels between the planes of two classes: wider than any input."""
_MAX_CANDIDATES = 30_000
_CHUNK = 256
"""Candidates compared at once: bounds the IoU matrix, and the work after ``max_detections`` are found."""


def suppress(
    xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int32],
    iou: float,
    max_detections: int,
) -> npt.NDArray[np.int64]:
    """Which boxes stay.

    Args:
        xyxy: float32 (N, 4), any unit.
        scores: float32 (N,).
        class_ids: int32 (N,). Boxes of different classes do not suppress each other.
        iou: A box that overlaps a better one of its class by more than this goes.

    Returns:
        Rows that stay, int64, best score first; equal scores in the order they came. At most ``max_detections``.
    """
    order = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    shifted = xyxy[order] + (class_ids[order].astype(np.float32) * _CLASS_OFFSET)[:, None]
    limit = np.float64(iou)  # a Python float would be rounded to float32 first
    kept = np.empty(0, dtype=np.int64)
    for start in range(0, len(order), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(order)))
        if len(kept):
            rows = rows[~(iou_matrix(shifted[rows], shifted[kept]) > limit).any(axis=1)]
        kept = np.concatenate([kept, rows[_greedy(iou_matrix(shifted[rows], shifted[rows]) > limit)]])
        if len(kept) >= max_detections:
            break
    stay: npt.NDArray[np.int64] = order[kept[:max_detections]]
    return stay


def _greedy(overlaps: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of the candidates, best first, stay, given which pairs overlap too much."""
    alive = np.ones(len(overlaps), dtype=np.bool_)
    for row in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if alive[row]:
            alive[row + 1 :] &= ~overlaps[row, row + 1 :]
    return alive


def iou_matrix(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of every box in ``a`` (N, 4) with every box in ``b`` (M, 4): float32 (N, M)."""
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    np.maximum(size, 0, out=size)
    shared = size[..., 0] * size[..., 1]
    union = _areas(a)[:, None] + _areas(b)[None, :] - shared
    with np.errstate(invalid="ignore"):  # two boxes without area: 0 / 0, which is over no threshold
        overlap: npt.NDArray[np.float32] = shared / union
    return overlap


def _areas(xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    area: npt.NDArray[np.float32] = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    return area
