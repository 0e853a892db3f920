"""Draw an image with the boxes of a prediction or a label over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from nicegui import ui

from visionops.review.findings import findings_in
from visionops.review.items import ImageFacts

__all__ = ["ShownBox", "describe_prediction", "draw_image"]


class ShownBox(NamedTuple):
    """A rectangle on an image."""

    name: str
    confidence: float | None
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the upright image."""


_COLOURS = 9
"""Number of class colours in console.css, ``--vo-class-0`` and following."""


def draw_image(
    item: str, image: ImageFacts, name: str, said: Mapping[str, Any] | None, class_names: Sequence[str]
) -> None:
    """Add the whole image of an item with the boxes of a prediction or a label over it.

    Args:
        class_names: Class names in the order of their colours, as on the review page.
    """
    # As wide as possible, and at most 70 % of the window's height.
    width = f"max-width: min(100%, {70 * image.width / max(1, image.height):.1f}vh)"
    with ui.element("div").classes("vo-picture").style(width):
        picture = ui.element("img")
        picture.props["src"] = f"/api/items/{item}/image"
        picture.props["alt"] = name or item
        for one in boxes_in(said):
            place = class_names.index(one.name) if one.name in class_names else 0
            _draw(one, image, place % _COLOURS)


def boxes_in(said: Mapping[str, Any] | None) -> Iterator[ShownBox]:
    """Yield the rectangles in a prediction or a label; skip other entries."""
    for group in (said or {}).values():
        for one in group if isinstance(group, list) else ():
            if not isinstance(one, Mapping) or not isinstance(one.get("class_name"), str):
                continue
            box = one.get("box")
            if isinstance(box, list | tuple) and len(box) == 4 and all(isinstance(x, int | float) for x in box):
                yield ShownBox(one["class_name"], one.get("confidence"), (box[0], box[1], box[2], box[3]))


def describe_prediction(said: Mapping[str, Any] | None) -> str:
    """Return a prediction or a label in one line: each class, with its confidence if it has one."""
    found = findings_in(said)
    if said is None:
        return "nothing"
    words = [f"{name} {value:.0%}" if value < 1 else name for name, value in found.items()]
    return ", ".join(words) or "nothing found"


def _draw(one: ShownBox, image: ImageFacts, colour: int) -> None:
    left, top, right, bottom = one.box
    place = (
        f"left: {100 * left / image.width:.3f}%; top: {100 * top / image.height:.3f}%; "
        f"width: {100 * (right - left) / image.width:.3f}%; height: {100 * (bottom - top) / image.height:.3f}%; "
        f"--vo-box: var(--vo-class-{colour})"
    )
    with ui.element("div").classes("vo-box").style(place):
        ui.label(one.name if one.confidence is None else f"{one.name} {one.confidence:.0%}").classes("vo-box-name")
