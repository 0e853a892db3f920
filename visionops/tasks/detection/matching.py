"""Match the boxes of an image at the serving threshold: found, confused, missed or false positive."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from visionops.data.layers import Boxes
from visionops.tasks.detection.prediction import BoxPrediction

__all__ = ["Matches", "confusion_matrix", "match"]

_IOU = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of true and predicted boxes of one image."""

    truth: Boxes
    prediction: BoxPrediction
    """Predicted boxes above the serving threshold."""
    partner: npt.NDArray[np.int64]
    """int64 (predicted boxes,): row of the matching true box, or -1."""

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Return whether each predicted box matches a true box of its class, bool (predicted boxes,)."""
        hit = self.partner >= 0
        hit[hit] = self.truth.class_ids[self.partner[hit]] == self.prediction.class_ids[hit]
        return hit

    @property
    def missed(self) -> npt.NDArray[np.bool_]:
        """Return whether each true box has no matching predicted box of its class, bool (true boxes,)."""
        missed = np.ones(len(self.truth.class_ids), dtype=np.bool_)
        missed[self.partner[self.correct]] = False
        return missed

    @property
    def badness(self) -> float:
        """Return the number of missed boxes plus the confidences of wrong boxes."""
        return float(self.missed.sum() + self.prediction.scores[~self.correct].sum())


def match(truth: Boxes, prediction: BoxPrediction) -> Matches:
    """Match boxes that overlap by an IoU of 0.5 or more, each at most once.

    Pairs of the same class come first, then those of two classes (confusions); within each the largest overlap first.
    """
    iou = _iou(prediction.boxes.astype(np.float64), truth.xyxy)
    row, column = np.nonzero(iou >= _IOU)
    confused = prediction.class_ids[row] != truth.class_ids[column]
    partner = np.full(len(prediction.boxes), -1, dtype=np.int64)
    taken = np.zeros(len(truth.class_ids), dtype=np.bool_)
    for index in np.lexsort((-iou[row, column], confused)):
        p, t = row[index], column[index]
        if partner[p] < 0 and not taken[t]:
            partner[p], taken[t] = t, True
    return Matches(truth, prediction, partner)


def confusion_matrix(matches: Sequence[Matches], num_classes: int) -> npt.NDArray[np.int64]:
    """Return counts, int64 (K + 1, K + 1): rows are the truth, columns the prediction, the last of each background."""
    matrix = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    background = num_classes
    for m in matches:
        found = set(m.partner.tolist())
        for partner, predicted in zip(m.partner.tolist(), m.prediction.class_ids.tolist(), strict=True):
            matrix[background if partner < 0 else m.truth.class_ids[partner], predicted] += 1
        for row, true in enumerate(m.truth.class_ids.tolist()):
            if row not in found:
                matrix[true, background] += 1
    return matrix


def _iou(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the intersection over union (N, M) of boxes (N, 4) and (M, 4), xyxy."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - low, 0, None).prod(axis=2)
    union = (a[:, 2:] - a[:, :2]).prod(axis=1)[:, None] + (b[:, 2:] - b[:, :2]).prod(axis=1)[None] - shared
    iou: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou
