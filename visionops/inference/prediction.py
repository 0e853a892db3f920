"""What a model says of one image: boxes, one class, or several attributes."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from visionops.inference.bundle import Head
from visionops.inference.nms import iou_matrix

__all__ = ["Answer", "BoxPrediction", "LabelPrediction", "Prediction"]

_SAME_IOU = 0.5
"""From this overlap on, two boxes of a class are the same object."""


class Prediction(Protocol):
    """What every task's answer can do: all that serving, batch and monitoring know of it."""

    @property
    def width(self) -> int:
        """Pixels of the original image after EXIF rotation."""

    @property
    def height(self) -> int:
        """Pixels of the original image after EXIF rotation."""

    def to_dict(self) -> dict[str, Any]:
        """The task's part of an answer, plain values: ``detections``, ``classification`` or ``attributes``."""

    def labels(self) -> list[tuple[str, float]]:
        """Every class answered, as the card names it, with its confidence: what is counted."""

    def problem(self) -> str:
        """What makes this no answer (numbers that are not finite, ids out of range); "" when nothing does."""

    def support(self, other: Prediction) -> float:
        """How strongly ``other``, of a changed image, still says what this one says: 0 to 1 (for saliency)."""

    def agreement(self, other: Prediction) -> float:
        """How far ``other``, another model's answer to the same image, is the same answer: 0 to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class BoxPrediction:
    """The detections of one image, best first."""

    width: int
    """Pixels of the original image after EXIF rotation."""
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
        """``{"detections": [{"class_id", "class_name", "confidence", "box"}]}``, best first."""
        return {
            "detections": [
                {
                    "class_id": int(c),
                    "class_name": self.class_names[c],
                    "confidence": round(float(s), 6),
                    "box": [round(float(v), 3) for v in b],
                }
                for c, s, b in zip(self.class_ids, self.scores, self.boxes, strict=True)
            ]
        }

    def labels(self) -> list[tuple[str, float]]:
        """Class and score of each box."""
        return [(self.class_names[c], float(s)) for c, s in zip(self.class_ids, self.scores, strict=True)]

    def problem(self) -> str:
        """What makes this no answer."""
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            return "boxes or scores are not finite numbers"
        if ((self.scores < 0) | (self.scores > 1)).any():
            return "scores leave 0 to 1"
        if ((self.class_ids < 0) | (self.class_ids >= len(self.class_names))).any():
            return f"class ids leave the {len(self.class_names)} classes of the card"
        return ""

    def support(self, other: Prediction) -> float:
        """Score of the box of ``other`` that has the class of our best and overlaps it by half, at best."""
        if not isinstance(other, BoxPrediction) or not len(self.boxes) or not len(other.boxes):
            return 0.0
        best = self.boxes[0]
        low, high = np.maximum(other.boxes[:, :2], best[:2]), np.minimum(other.boxes[:, 2:], best[2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = (other.boxes[:, 2:] - other.boxes[:, :2]).prod(axis=1) + (best[2:] - best[:2]).prod() - shared
        same = (other.class_ids == self.class_ids[0]) & (shared >= 0.5 * union)
        return float(other.scores[same].max(initial=0.0))

    def agreement(self, other: Prediction) -> float:
        """F1 of matched boxes: of one class by name, IoU 0.5 or more, each matched once; 1 where both found nothing."""
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


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What one head says."""

    head: Head
    probabilities: npt.NDArray[np.float32]
    """float32 (classes of the head,), after the temperature; their sum is 1."""

    @property
    def class_id(self) -> int:
        """Of the answer: by the head's threshold where it has one, else the most probable."""
        head = self.head
        if head.positive is None or head.threshold is None:
            return int(self.probabilities.argmax())
        positive = head.class_names.index(head.positive)
        # NumPy rounds a Python float to float32 beside a float32 one, and a threshold half-way between two with it.
        return positive if float(self.probabilities[positive]) >= head.threshold else 1 - positive

    @property
    def class_name(self) -> str:
        """Of the answer."""
        return self.head.class_names[self.class_id]

    @property
    def confidence(self) -> float:
        """Probability of the answer; below one half where a threshold decided."""
        return float(self.probabilities[self.class_id])

    def to_dict(self) -> dict[str, Any]:
        """``{"class_id", "class_name", "confidence", "probabilities": {class: p}}``."""
        pairs = zip(self.head.class_names, self.probabilities.tolist(), strict=True)
        return {
            "class_id": self.class_id,
            "class_name": self.class_name,
            "confidence": round(self.confidence, 6),
            "probabilities": {name: round(p, 6) for name, p in pairs},
        }


@dataclasses.dataclass(frozen=True, slots=True)
class LabelPrediction:
    """The answers of every head for one image."""

    width: int
    """Pixels of the original image after EXIF rotation."""
    height: int
    answers: tuple[Answer, ...]
    """In the order of the card's heads."""
    is_classification: bool
    """One head, answered by itself rather than by its name."""
    embedding: npt.NDArray[np.float32]
    """float32 (D,): the backbone's pooled features; (0,) where the graph has none."""

    def to_dict(self) -> dict[str, Any]:
        """``{"classification": {…}}`` or ``{"attributes": {name: {…}}}``; see `Answer.to_dict`."""
        if self.is_classification:
            return {"classification": self.answers[0].to_dict()}
        return {"attributes": {answer.head.name: answer.to_dict() for answer in self.answers}}

    def labels(self) -> list[tuple[str, float]]:
        """Class and confidence of each head; of attributes as ``attribute=class``."""
        if self.is_classification:
            return [(self.answers[0].class_name, self.answers[0].confidence)]
        return [(f"{a.head.name}={a.class_name}", a.confidence) for a in self.answers]

    def problem(self) -> str:
        """What makes this no answer."""
        finite = all(np.isfinite(answer.probabilities).all() for answer in self.answers)
        return "" if finite else "probabilities are not finite numbers"

    def support(self, other: Prediction) -> float:
        """Mean probability, over the heads, that ``other`` gives to what this one answers."""
        if not isinstance(other, LabelPrediction):
            return 0.0
        pairs = zip(self.answers, other.answers, strict=True)
        return float(np.mean([theirs.probabilities[ours.class_id] for ours, theirs in pairs]))

    def agreement(self, other: Prediction) -> float:
        """Share of the heads of either that both have and that answer the same class."""
        if not isinstance(other, LabelPrediction):
            return 0.0
        ours, theirs = ({a.head.name: a.class_name for a in p.answers} for p in (self, other))
        return len(ours.items() & theirs.items()) / len(ours.keys() | theirs.keys())
