"""Typed answers of the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["Answer", "Box", "Label", "Model", "answer_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """Model that answered."""

    name: str
    version: str
    alias: str


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """An object found by a detector."""

    class_id: int
    class_name: str
    confidence: float
    """Confidence, 0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the image after EXIF rotation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """The class of an image, or of one of its attributes."""

    class_name: str
    confidence: float
    """Confidence, 0 to 1."""
    probabilities: Mapping[str, float]
    """Probability of each class; all sum to 1."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a model for one image. Its fields depend on the model's task; `data` has all of them."""

    request_id: str
    """Request id of this answer, for `Client.feedback` and in the server's log."""
    model: Model
    width: int
    """Width in pixels of the image after EXIF rotation."""
    height: int
    timing_ms: Mapping[str, float]
    """Milliseconds of the server's work, by part; ``total`` is their sum."""
    data: Mapping[str, Any]
    """Complete answer, as the server sent it."""
    detections: tuple[Box, ...] = ()
    """Objects found by a detector, most confident first."""
    classification: Label | None = None
    """Answer of a classifier."""
    attributes: Mapping[str, Label] = dataclasses.field(default_factory=dict)
    """Answers of a model with several attributes, by attribute name."""

    @property
    def task(self) -> str:
        """Return ``detection``, ``classification`` or ``attributes``; "" for any other task."""
        for name in ("detections", "classification", "attributes"):
            if name in self.data:
                return "detection" if name == "detections" else name
        return ""


def answer_of(data: Mapping[str, Any], request_id: str) -> Answer:
    """Return a body of `/predict` as an answer.

    Raises:
        KeyError, TypeError, ValueError: The body is not an answer.
    """
    label = data.get("classification")
    return Answer(
        request_id=request_id,
        model=Model(**data["model"]),
        width=data["image"]["width"],
        height=data["image"]["height"],
        timing_ms=data["timing_ms"],
        data=data,
        detections=tuple(_box_of(one) for one in data.get("detections", ())),
        classification=_label_of(label) if label else None,
        attributes={name: _label_of(one) for name, one in data.get("attributes", {}).items()},
    )


def _box_of(found: Mapping[str, Any]) -> Box:
    x1, y1, x2, y2 = found["box"]
    return Box(found["class_id"], found["class_name"], found["confidence"], (x1, y1, x2, y2))


def _label_of(found: Mapping[str, Any]) -> Label:
    return Label(found["class_name"], found["confidence"], found["probabilities"])
