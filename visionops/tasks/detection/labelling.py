"""Labels of boxes: their form, their checks, and their conversion to and from a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from visionops.errors import LabelError
from visionops.tasks.labelling import LabelForm, LabelScheme, class_among, read_form

if TYPE_CHECKING:
    from visionops.data.dataset import Dataset
    from visionops.data.layers import BoxLayer

__all__ = ["BoxLabel", "BoxLabels", "box_layer", "boxes_in", "check_boxes"]

_ROUNDING = 0.5
"""Number of pixels by which a box may exceed the image, because tools that draw in percent round. It is then
clipped."""
_MOST_BOXES = 10_000


class BoxLabel(LabelForm):
    """A labelled object."""

    class_name: str
    box: Annotated[list[float], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the image")]


class BoxLabels(LabelForm):
    """All objects of an image; an empty list means that there are none."""

    boxes: Annotated[list[BoxLabel], Field(max_length=_MOST_BOXES)]


def check_boxes(label: Mapping[str, Any], scheme: LabelScheme, width: int, height: int) -> dict[str, Any]:
    """Check a label; return it with its boxes clipped to the image.

    Args:
        width: Pixels of the image after EXIF rotation.
        height: Pixels of the image after EXIF rotation.

    Raises:
        LabelError: It does not have the form `BoxLabels`, a class is unknown, or a box is empty or outside the image.
    """
    boxes = []
    for number, one in enumerate(read_form(BoxLabels, label).boxes):
        class_among(one.class_name, scheme.class_names, f"boxes.{number}")
        x1, y1, x2, y2 = one.box
        if min(x1, y1) < -_ROUNDING or x2 > width + _ROUNDING or y2 > height + _ROUNDING:
            raise LabelError(
                f"label: boxes.{number}: {one.box} exceeds the image of {width} x {height} pixels; draw it inside"
            )
        cut = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
        if cut[0] >= cut[2] or cut[1] >= cut[3]:
            raise LabelError(f"label: boxes.{number}: {one.box} has no area; expected x1 < x2 and y1 < y2")
        boxes.append({"class_name": one.class_name, "box": cut})
    return {"boxes": boxes}


def box_layer(labels: Sequence[Mapping[str, Any]], scheme: LabelScheme) -> BoxLayer:
    """Return checked labels, one for each image, as a layer of a data set."""
    from visionops.data.layers import box_layer_from

    rows = [(row, one) for row, label in enumerate(labels) for one in label["boxes"]]
    columns: dict[str, Any] = {
        "image": [row for row, _ in rows],
        "class_id": [scheme.class_names.index(one["class_name"]) for _, one in rows],
    }
    for place, name in enumerate(("x1", "y1", "x2", "y2")):
        columns[name] = [one["box"][place] for _, one in rows]
    return box_layer_from(scheme.class_names, columns)


def boxes_in(dataset: Dataset) -> list[dict[str, Any] | None]:
    """Return the label of each image of a data set."""
    names = dataset.class_names
    return [
        {
            "boxes": [
                {"class_name": names[class_id], "box": xyxy}
                for xyxy, class_id in zip(boxes.xyxy.tolist(), boxes.class_ids.tolist(), strict=True)
            ]
        }
        for boxes in dataset.boxes_by_image()
    ]
