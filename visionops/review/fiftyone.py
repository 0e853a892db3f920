"""Convert decided labels to a FiftyOne dataset for detection or classification: ``labels.json`` beside ``data/``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from visionops.review.items import Decision, ReviewItem
from visionops.tasks.labelling import LabelScheme

__all__ = ["fiftyone_labels"]


def fiftyone_labels(scheme: LabelScheme, found: Sequence[tuple[ReviewItem, Decision]]) -> str:
    """Return the content of ``labels.json``; an image is named by its SHA-256.

    Args:
        scheme: Label scheme with boxes, or with one question.
        found: Items with their decisions.
    """
    classes = scheme.class_names or scheme.questions[0].class_names
    labels = {item.image.sha256: _target(decision.label or {}, classes, item) for item, decision in found}
    return json.dumps({"classes": classes, "labels": labels}, ensure_ascii=False)


def _target(label: Mapping[str, Any], classes: Sequence[str], item: ReviewItem) -> Any:
    if "boxes" not in label:
        return classes.index(label["class_name"])
    width, height = item.image.width, item.image.height
    targets = []
    for one in label["boxes"]:
        x1, y1, x2, y2 = one["box"]
        box = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
        targets.append({"label": classes.index(one["class_name"]), "bounding_box": box})
    return targets
