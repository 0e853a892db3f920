"""Report findings of single boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from visionops.data.coordinates import suspect_coordinates
from visionops.data.dataset import Dataset
from visionops.data.duplicates import duplicate_boxes
from visionops.data.findings import Code, Finding

__all__ = ["check_boxes", "clip_boxes"]


def check_boxes(dataset: Dataset, facts: pa.Table) -> Iterator[Finding]:
    """Report boxes by the real size of their image; compare boxes of unusable images only with each other."""
    rows, class_ids, boxes = dataset.box_arrays()
    if not len(rows):
        return
    keys, ids, names = dataset.column("key"), dataset.boxes.column("source_id").to_pylist(), dataset.class_names

    def found(code: Code, box: int, message: str) -> Finding:
        key = keys[rows[box]]
        place = f"{key}: annotation {ids[box]}" if ids[box] else f"{key}: box {box}"
        return Finding.of(code, place, message, (key,))

    finite = np.isfinite(boxes).all(axis=1)
    for box in np.flatnonzero(~finite).tolist():
        yield found(Code.BAD_BOX, box, "has a coordinate that is not a number; draw it again or remove it")
    size = np.stack([facts.column("width").to_numpy(), facts.column("height").to_numpy()], axis=1)[rows]
    known = finite & (size[:, 0] > 0)
    if known.any():
        yield from suspect_coordinates(keys, rows[known], boxes[known], size[known])
    clipped = clip_boxes(boxes, size)
    degenerate = known & ((clipped[:, 2:] - clipped[:, :2]) <= 0).any(axis=1)
    for box in np.flatnonzero(degenerate).tolist():
        x1, y1, x2, y2 = boxes[box]
        name = names[class_ids[box]]
        fix = "draw it again or remove it"
        yield found(Code.DEGENERATE_BOX, box, f"{name} ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area inside; {fix}")
    beyond = np.abs(clipped - boxes)
    for box in np.flatnonzero(known & ~degenerate & (beyond > 0).any(axis=1)).tolist():
        side = int(np.argmax(beyond[box]))
        edge = ("left", "upper", "right", "lower")[side]
        message = f"reaches {beyond[box, side]:.4g} px over the {edge} edge; clipped to the image"
        yield found(Code.OUT_OF_BOUNDS_BOX, box, message)
    for box, first in duplicate_boxes(rows, class_ids, boxes):
        yield found(Code.DUPLICATE_BOX, box, f"equals {_name_of(ids, first)} in class and place; only one is kept")


def clip_boxes(xyxy: npt.NDArray[np.float64], sizes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the part of each box that lies inside its image.

    Args:
        xyxy: float64 (M, 4), pixels.
        sizes: Width and height of each box's image, (M, 2).
    """
    return np.asarray(np.clip(xyxy, 0.0, np.concatenate([sizes, sizes], axis=1).astype(np.float64)))


def _name_of(ids: Sequence[str], box: int) -> str:
    return f"annotation {ids[box]}" if ids[box] else f"box {box}"
