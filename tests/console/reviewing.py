"""Generate reviews for the console, and helpers for tests that review them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from tests.helpers.review import CASTING, STEEL
from visionops.review.items import Origin, Predicted, Reason, UseCase
from visionops.review.service import Arrival, Review
from visionops.review.states import Actor
from visionops.review_store.opening import open_review
from visionops.tasks.labelling import LabelScheme, Question

HATS = UseCase(
    "hats",
    "attributes",
    LabelScheme(
        questions=(Question(name="hat", class_names=("no", "yes")), Question(name="mood", class_names=("glad", "sad")))
    ),
)
SIZE = (320, 240)
FOUND = [[40.0, 50.0, 120.0, 110.0], [180.0, 90.0, 260.0, 200.0]]
EVIL = "<img src=x onerror=alert(1)>"


@contextlib.contextmanager
def opened_review(home: Path) -> Iterator[Review]:
    """Open the review of a running console."""
    with open_review(str(home / "review" / "review.db"), str(home / "review" / "images")) as review:
        yield review


def part(number: int) -> bytes:
    """Return an image of a grey plate with marks that show its number in binary."""
    image = Image.new("RGB", SIZE, (150 + number % 40, 152, 160))
    draw = ImageDraw.Draw(image)
    for bit in range(12):
        shade = (40, 60, 90) if number >> bit & 1 else (200, 205, 210)
        draw.ellipse((10 + 25 * bit, 15, 28 + 25 * bit, 33), fill=shade)
    for x1, y1, x2, y2 in FOUND:
        draw.rectangle((x1, y1, x2, y2), outline=(70, 60, 50), width=2)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def labelled(name: str, probability: float = 0.9) -> dict[str, Any]:
    return {"class_id": 0, "class_name": name, "confidence": probability, "probabilities": {name: probability}}


def _predicted(use_case: UseCase, number: int) -> Predicted:
    if use_case.task == "classification":
        answer: dict[str, Any] = {"classification": labelled("defective" if number % 3 == 0 else "ok")}
    elif use_case.task == "detection":
        answer = {
            "detections": [{"class_id": 0, "class_name": "scratch", "confidence": 0.8, "box": box} for box in FOUND]
        }
    else:
        answer = {"attributes": {"hat": labelled("no"), "mood": labelled("glad")}}
    return Predicted(use_case.name, "3", answer)


def fill(review: Review, use_case: UseCase, count: int, **texts: Any) -> list[str]:
    """Put images into a queue, low numbers first, and return the ids of their items."""
    review.put_use_case(use_case)
    now, items = datetime.now(UTC), []
    for number in range(count):
        reasons = (Reason("uncertainty", 1 - number / 10_000),)
        given = {"name": f"part-{number}.png", **texts}
        arrival = Arrival(Origin.TRAFFIC, predicted=_predicted(use_case, number), reasons=reasons, **given)
        added = review.add(
            use_case.name, part(number), arrival, Actor("intake"), key=f"{use_case.name}{number}", now=now
        )
        items.append(added.item.id)
    return items


def shown(page: Any) -> str:
    """Return the id of the shown item."""
    return str(page.locator(".vr-canvas img:not(.vr-next)").get_attribute("src")).split("/")[3]


def wait_for_image(page: Any) -> None:
    page.locator(".vr-decide .vr-main:not([disabled])").wait_for()


def wait_until_saved(page: Any) -> None:
    page.get_by_role("status").get_by_text("all saved").wait_for()


__all__ = [
    "CASTING", "EVIL", "FOUND", "HATS", "SIZE", "STEEL",
    "fill", "opened_review", "part", "shown", "wait_for_image", "wait_until_saved",
]  # fmt: skip
