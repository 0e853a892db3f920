"""Boxes that a detector finds in an image."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.inference.nms import iou_matrix
from visionops.inference.prediction import Prediction

__all__ = ["BoxPrediction"]

_SAME_IOU = 0.5
"""Overlap from which two boxes of a class are the same object."""


@dataclasses.dataclass(frozen=True, slots=True)
class BoxPrediction:
    """Detections of an image, best first."""

    width: int
    """Width of the original image in pixels after EXIF rotation."""
    height: int
    boxes: npt.NDArray[np.float32]
    """float32 (N, 4), xyxy, pixels of the original image after EXIF rotation."""
    scores: npt.NDArray[np.float32]
    """float32 (N,), 0 to 1, descending."""
    class_ids: npt.NDArray[np.int32]
    """int32 (N,), index into the bundle's classes."""
    class_names: tuple[str, ...]
    """All classes of the bundle, in its order."""

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"detections": [{"class_id", "class_name", "confidence", "box"}]}``, best first."""
        return {
            "detections": [
                {
                    "class_id": c,
                    "class_name": self.class_names[c],
                    "confidence": round(s, 6),
                    "box": [round(v, 3) for v in b],
                }
                for c, s, b in zip(self.class_ids.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
            ]
        }

    def labels(self) -> list[tuple[str, float]]:
        """Return class and score of each box."""
        return [(self.class_names[c], s) for c, s in zip(self.class_ids.tolist(), self.scores.tolist(), strict=True)]

    @property
    def embedding(self) -> npt.NDArray[np.float32]:
        """Return an empty array, (0,), because detectors have no embedding."""
        return np.empty(0, dtype=np.float32)

    def record(self) -> dict[str, float | list[float]]:
        """Return areas and centres of the boxes, as shares of the image, its width and its height."""
        if not len(self.boxes):
            return {}
        whole = np.array([self.width, self.height] * 2, dtype=np.float32)
        boxes = np.divide(self.boxes, whole, dtype=np.float32)
        sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2
        return {
            "areas": sides.prod(axis=1).tolist(),
            "centres_x": centres[:, 0].tolist(),
            "centres_y": centres[:, 1].tolist(),
        }

    def problem(self) -> str:
        """Return what makes the answer invalid; "" for a valid one."""
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            return "boxes or scores are not finite numbers"
        if ((self.scores < 0) | (self.scores > 1)).any():
            return "scores are not from 0 to 1"
        if ((self.class_ids < 0) | (self.class_ids >= len(self.class_names))).any():
            return f"class ids exceed the {len(self.class_names)} classes of the card"
        return ""

    def support(self, other: Prediction) -> float:
        """Return the best score of a box in ``other`` that has the class of our best box and overlaps it by half."""
        if not isinstance(other, BoxPrediction) or not len(self.boxes) or not len(other.boxes):
            return 0.0
        best = self.boxes[0]
        low, high = np.maximum(other.boxes[:, :2], best[:2]), np.minimum(other.boxes[:, 2:], best[2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = (other.boxes[:, 2:] - other.boxes[:, :2]).prod(axis=1) + (best[2:] - best[:2]).prod() - shared
        same = (other.class_ids == self.class_ids[0]) & (shared >= 0.5 * union)
        return float(other.scores[same].max(initial=0.0))

    def agreement(self, other: Prediction) -> float:
        """Return the F1 of boxes matched by class name at IoU 0.5 or more, each once; 1 where both found nothing."""
        if not isinstance(other, BoxPrediction):
            return 0.0
        if not len(self.boxes) + len(other.boxes):
            return 1.0
        iou = iou_matrix(self.boxes, other.boxes)
        ours, theirs = np.nonzero(iou >= _SAME_IOU)
        pairs = sorted(zip(-iou[ours, theirs], ours.tolist(), theirs.tolist(), strict=True))
        left, right = set(range(len(self.boxes))), set(range(len(other.boxes)))
        for _, a, b in pairs:
            same = self.class_names[self.class_ids[a]] == other.class_names[other.class_ids[b]]
            if same and a in left and b in right:
                left.remove(a)
                right.remove(b)
        return 2 * (len(self.boxes) - len(left)) / (len(self.boxes) + len(other.boxes))
