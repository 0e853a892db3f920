"""Predictions of a classifier for one image: one class, or a class for each attribute."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.inference.bundle import Head
from visionops.inference.prediction import Prediction

__all__ = ["Answer", "LabelPrediction"]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Answer of one head."""

    head: Head
    probabilities: npt.NDArray[np.float32]
    """float32 (classes of the head,), after the temperature; their sum is 1."""

    @property
    def class_id(self) -> int:
        """Return the id of the answer: by the head's threshold where it has one, else the most probable class."""
        head = self.head
        if head.positive is None or head.threshold is None:
            return int(self.probabilities.argmax())
        positive = head.class_names.index(head.positive)
        # NumPy rounds a Python float to float32 beside a float32 value, and so a threshold midway between two of them.
        return positive if float(self.probabilities[positive]) >= head.threshold else 1 - positive

    @property
    def class_name(self) -> str:
        """Return the class name of the answer."""
        return self.head.class_names[self.class_id]

    @property
    def confidence(self) -> float:
        """Return the probability of the answer; it may be below one half where a threshold decided."""
        return float(self.probabilities[self.class_id])

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"class_id", "class_name", "confidence", "probabilities": {class: p}}``."""
        pairs = zip(self.head.class_names, self.probabilities.tolist(), strict=True)
        return {
            "class_id": self.class_id,
            "class_name": self.class_name,
            "confidence": round(self.confidence, 6),
            "probabilities": {name: round(p, 6) for name, p in pairs},
        }


@dataclasses.dataclass(frozen=True, slots=True)
class LabelPrediction:
    """Answers of all heads for one image."""

    width: int
    """Width of the original image in pixels after EXIF rotation."""
    height: int
    answers: tuple[Answer, ...]
    """Answers in the order of the card's heads."""
    is_classification: bool
    """Whether there is a single head, whose answer has no name."""
    embedding: npt.NDArray[np.float32]
    """float32 (D,): the backbone's pooled features; (0,) where the graph has none."""

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"classification": {…}}`` or ``{"attributes": {name: {…}}}``; see `Answer.to_dict`."""
        if self.is_classification:
            return {"classification": self.answers[0].to_dict()}
        return {"attributes": {answer.head.name: answer.to_dict() for answer in self.answers}}

    def labels(self) -> list[tuple[str, float]]:
        """Return class and confidence of each head; attributes as ``attribute=class``."""
        if self.is_classification:
            return [(self.answers[0].class_name, self.answers[0].confidence)]
        return [(f"{a.head.name}={a.class_name}", a.confidence) for a in self.answers]

    def record(self) -> dict[str, float | list[float]]:
        """Return the probability of every class of every head."""
        return {"probabilities": np.concatenate([answer.probabilities for answer in self.answers]).tolist()}

    def problem(self) -> str:
        """Return what makes the answer invalid; "" for a valid one."""
        finite = all(np.isfinite(answer.probabilities).all() for answer in self.answers)
        return "" if finite else "probabilities are not finite numbers"

    def support(self, other: Prediction) -> float:
        """Return the mean probability, over the heads, that ``other`` gives to this prediction's answers."""
        if not isinstance(other, LabelPrediction):
            return 0.0
        pairs = zip(self.answers, other.answers, strict=True)
        return float(np.mean([theirs.probabilities[ours.class_id] for ours, theirs in pairs]))

    def agreement(self, other: Prediction) -> float:
        """Return the share of all heads of both that both have and that answer the same class."""
        if not isinstance(other, LabelPrediction):
            return 0.0
        ours, theirs = ({a.head.name: a.class_name for a in p.answers} for p in (self, other))
        return len(ours.items() & theirs.items()) / len(ours.keys() | theirs.keys())
