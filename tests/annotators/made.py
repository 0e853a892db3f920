"""Use cases of every task, items of them, and a tool that is a list in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.helpers.review import ANNA, CASTING, NOW, STEEL, png
from visionops.review.annotation.tool import Annotation, Ticket, ticket_of
from visionops.review.items import Origin, Predicted, ReviewItem, UseCase
from visionops.review.service import Arrival, Review
from visionops.tasks.labelling import LabelScheme, Question

FACES = UseCase(
    "faces",
    "attributes",
    LabelScheme(
        questions=(
            Question(name="hat", class_names=("no", "yes")),
            Question(name="mood & 'tone' <ü>", class_names=("glad", 'sad, "very"')),
        )
    ),
)
DETECTED = {
    "steel": {
        "detections": [
            {"class_id": 1, "class_name": "dent", "confidence": 0.75, "box": [1.1, 2.3, 30.7, 40.9]},
            {"class_id": 0, "class_name": "scratch", "confidence": 0.5, "box": [0.0, 0.0, 64.0, 48.0]},
        ]
    },
    "casting": {
        "classification": {
            "class_id": 1,
            "class_name": "defective",
            "confidence": 0.8,
            "probabilities": {"ok": 0.2, "defective": 0.8},
        }
    },
    "faces": {
        "attributes": {
            "hat": {"class_id": 1, "class_name": "yes", "confidence": 0.9, "probabilities": {"no": 0.1, "yes": 0.9}},
            FACES.scheme.questions[1].name: {
                "class_id": 0,
                "class_name": "glad",
                "confidence": 0.6,
                "probabilities": {"glad": 0.6, 'sad, "very"': 0.4},
            },
        }
    },
}
OTHER = {
    "steel": {"boxes": [{"class_name": "scratch", "box": [3.25, 4.5, 20.125, 33.0]}]},
    "casting": {"class_name": "ok"},
    "faces": {"attributes": {"hat": "no", FACES.scheme.questions[1].name: None}},
}
"""What a person says instead."""
CASES = (STEEL, CASTING, FACES)
NAMES = ("plain.png", "ü mit Leerzeichen.png", "100% #1 'a' \"b\" <c>&d;.png", "../../etc/passwd", "日本語?.png")


def add(review: Review, use_case: str, number: int, name: str = "x.png", **more: Any) -> ReviewItem:
    """Add an image with a prediction."""
    arrival = Arrival(Origin.UPLOAD, name=name, predicted=Predicted(use_case, "3", DETECTED[use_case]))
    arrival = dataclasses.replace(arrival, **more)
    return review.add(use_case, png(number), arrival, ANNA, key=f"{use_case} {number}", now=NOW).item


class Desk:
    """An annotation tool in memory."""

    title = "the desk"

    def __init__(self) -> None:
        self.items: list[ReviewItem] = []
        self.batches: list[int] = []
        self.said: list[Annotation] = []

    def present(self, use_case: UseCase, tickets: Sequence[Ticket]) -> set[Ticket]:
        return {ticket_of(item) for item in self.items if item.use_case == use_case.name} & set(tickets)

    def push(self, use_case: UseCase, items: Sequence[ReviewItem], read: Callable[[str], bytes]) -> None:
        assert all(read(item.image.sha256) for item in items)
        self.items += items
        self.batches.append(len(items))

    def annotations(self, use_case: UseCase) -> Iterator[Annotation]:
        return iter(self.said)

    def say(self, item: ReviewItem, label: Any = None, **more: Any) -> None:
        reference = f"desk {item.id} {len(self.said)}"
        self.said.append(Annotation(ticket_of(item), reference, more.pop("reviewer", "bea"), label, **more))
