"""Compare the boxes that two people drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from visionops.data.layers import Boxes
from visionops.tasks.detection.matching import match
from visionops.tasks.detection.prediction import BoxPrediction
from visionops.tasks.labelling import LabelScheme
from visionops.tasks.spec import LabelComparison

__all__ = ["boxes_of", "compare_boxes", "count_shared"]


def count_shared(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Count for each class the boxes that match at an IoU of 0.5 or more, and the boxes of each label.

    Args:
        first: Label from `check_boxes`.
        second: Label from `check_boxes`.
    """
    names = sorted({one["class_name"] for label in (first, second) for one in label["boxes"]})
    ours, theirs = boxes_of(first["boxes"], names), boxes_of(second["boxes"], names)
    scores = np.ones(len(theirs.xyxy), dtype=np.float32)
    corners = cast("npt.NDArray[np.float32]", theirs.xyxy)  # as precise: `match` computes in float64
    matches = match(ours, BoxPrediction(0, 0, corners, scores, theirs.class_ids, tuple(names)))
    shared, in_first, in_second = (
        np.bincount(ids, minlength=len(names)).tolist()
        for ids in (theirs.class_ids[matches.correct], ours.class_ids, theirs.class_ids)
    )
    return dict(zip(names, zip(shared, in_first, in_second, strict=True), strict=True))


def compare_boxes(first: Mapping[str, Any], second: Mapping[str, Any], scheme: LabelScheme) -> LabelComparison:
    """Return the shared parts of two labels: boxes of each class, and whether there is any box of it."""
    parts = count_shared(first, second)
    answers = {}
    for name in scheme.class_names:
        _, ours, theirs = parts.get(name, (0, 0, 0))
        answers[name] = ("some" if ours else "none", "some" if theirs else "none")
    return LabelComparison(answers, parts)


def boxes_of(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Boxes:
    """Return the boxes of entries with a ``box`` and a ``class_name``, which is one of ``names``."""
    corners: npt.NDArray[np.float64] = np.array([one["box"] for one in found], dtype=np.float64)
    ids = [names.index(one["class_name"]) for one in found]
    return Boxes(corners.reshape(-1, 4), np.array(ids, dtype=np.int32))
