"""Find boxes that are probably wrong, by a model's predictions: overlooked, of another class, or not found.

Based on ObjectLab (Tkachenko, Thyagarajan and Mueller, 2023), but the quality of an image is that of its worst box, and
every box above the serving threshold counts. ObjectLab uses only those above 0.95, which detectors trained on few
images seldom reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from visionops.tasks.detection.agreeing import boxes_of
from visionops.tasks.detection.matching import match
from visionops.tasks.detection.prediction import BoxPrediction
from visionops.tasks.spec import Suspicion

__all__ = ["suspect_boxes"]

_NOT_FOUND = 0.5
"""Quality of a box that the model does not find, which may be wrong or only hard to see."""


def suspect_boxes(labels: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> dict[int, Suspicion]:
    """Return the labels that are probably wrong, by row: the worst of each image.

    Args:
        labels: Labels from `check_boxes`.
        answers: ``{"detections": [...]}`` for the same images.
    """
    found = {}
    for row, (label, answer) in enumerate(zip(labels, answers, strict=True)):
        worst = min(_doubts(label, answer), key=lambda doubt: doubt.quality, default=None)
        if worst is not None and worst.quality <= _NOT_FOUND:
            found[row] = worst
    return found


def _doubts(label: Mapping[str, Any], answer: Mapping[str, Any]) -> Iterator[Suspicion]:
    detections = sorted(answer["detections"], key=lambda one: -float(one["confidence"]))
    names = sorted({one["class_name"] for one in (*label["boxes"], *detections)})
    given, said = boxes_of(label["boxes"], names), boxes_of(detections, names)
    scores = np.array([one["confidence"] for one in detections], dtype=np.float32)
    matches = match(given, BoxPrediction(0, 0, said.xyxy.astype(np.float32), scores, said.class_ids, tuple(names)))
    for partner, one in zip(matches.partner.tolist(), detections, strict=True):
        model, confidence = one["class_name"], float(one["confidence"])
        if partner < 0:
            yield Suspicion(1 - confidence, f"the model finds {model} ({confidence:.2f}), which is not in the label")
        elif (labelled := label["boxes"][partner]["class_name"]) != model:
            yield Suspicion(1 - confidence, f"labelled {labelled}, the model says {model} ({confidence:.2f})")
    for row in sorted(set(range(len(label["boxes"]))).difference(matches.partner.tolist())):
        yield Suspicion(_NOT_FOUND, f"labelled {label['boxes'][row]['class_name']}, which the model does not find")
