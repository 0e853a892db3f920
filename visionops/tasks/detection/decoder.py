"""Decode a detector's graph outputs into boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from visionops.errors import OptionError
from visionops.inference.bundle import BundleCard, Decode, Thresholds
from visionops.inference.decoders import Outputs, RawOutput
from visionops.inference.nms import suppress
from visionops.inference.preprocessing import Window
from visionops.inference.tiling import WEAKEST_PART, merge_tiles
from visionops.tasks.detection.prediction import BoxPrediction

__all__ = ["BoxDecoder"]

_Detections = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]
"""xyxy (N, 4), scores (N,), class ids (N,)."""


class BoxDecoder:
    """Decode boxes from a detector's outputs."""

    everything: Mapping[str, float] = MappingProxyType({"confidence": 0.0})

    def __init__(self, card: BundleCard, thresholds: Thresholds) -> None:
        self._card = card
        self._thresholds = thresholds

    def contradiction(self, outputs: Outputs) -> str:
        """See `Decoder`."""
        shape, rows = outputs[0].shape, 4 + len(self._card.class_names)
        end2end = self._card.decode == Decode.YOLO_END2END
        fits = len(shape) == 3 and shape[0] == 1 and (shape[2] == 6 if end2end else shape[1] == rows)
        return "" if fits else ("(1, N, 6)" if end2end else f"(1, {rows}, N)")

    def decode(
        self, views: Sequence[RawOutput], options: Mapping[str, float], *, multi_label: bool = False
    ) -> BoxPrediction:
        """Return detections above ``confidence`` after NMS at ``iou``; both are options. Those of tiles are merged.

        Args:
            multi_label: Whether a candidate counts for every class above the threshold, as in the trainer's
                validation, instead of only for its best class.

        Raises:
            OptionError: The option is unknown.
        """
        unknown = sorted(set(options) - {"confidence", "iou"})
        if unknown:
            raise OptionError(f"{unknown[0]}: unknown option of a detector; expected confidence or iou")
        limits = self._thresholds.model_copy(update=dict(options))
        # Keep weaker boxes, which connect the pieces of an object, so that merging does not depend on the threshold.
        share = WEAKEST_PART if len(views) > 1 else 1.0
        wide = limits.model_copy(update={"confidence": limits.confidence * share})
        found = []
        for view in views:
            xyxy, scores, class_ids = _decode_boxes(view.outputs[0], self._card.decode, wide, multi_label=multi_label)
            found.append((view.geometry.to_original(xyxy), scores, class_ids))
        windows = [Window(g.left, g.top, g.width, g.height) for g in (view.geometry for view in views)]
        width, height = max(w.x + w.width for w in windows), max(w.y + w.height for w in windows)
        boxes, scores, class_ids = found[0]
        if len(found) > 1:
            merged = merge_tiles(found, windows, limits.max_detections, confidence=limits.confidence)
            boxes, scores, class_ids = merged
        return BoxPrediction(width, height, boxes, scores, class_ids, self._card.class_names)


def _decode_boxes(raw: npt.NDArray[np.float32], decode: str, limits: Thresholds, *, multi_label: bool) -> _Detections:
    """Decode the graph's first output into detections in input pixels, best first."""
    if decode == Decode.YOLO_END2END:
        return _decode_end2end(raw[0], limits)
    return _decode_yolo(raw[0], limits, multi_label=multi_label)


def _decode_end2end(rows: npt.NDArray[np.float32], limits: Thresholds) -> _Detections:
    rows = rows[_above(rows[:, 4], limits.confidence)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][: limits.max_detections]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32)


def _decode_yolo(columns: npt.NDArray[np.float32], limits: Thresholds, *, multi_label: bool) -> _Detections:
    candidates = np.flatnonzero(_above(columns[4:].max(axis=0), limits.confidence))
    scores = columns[4:, candidates]
    if multi_label:
        anchor, class_ids = np.nonzero(_above(scores.T, limits.confidence))
    else:
        anchor, class_ids = np.arange(len(candidates)), scores.argmax(axis=0)
    best = scores[class_ids, anchor]
    centre, size = columns[:2, candidates[anchor]].T, columns[2:4, candidates[anchor]].T
    half = size / np.float32(2)
    xyxy: npt.NDArray[np.float32] = np.hstack([centre - half, centre + half], dtype=np.float32)
    labels = class_ids.astype(np.int32)
    stay = suppress(xyxy, best, labels, limits.iou, limits.max_detections)
    return xyxy[stay], best[stay], labels[stay]


def _above(scores: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.bool_]:
    """Return which scores are above the threshold, bool of their shape."""
    # NumPy rounds a Python float to the scores' float32; an np.float64 would widen the scores instead.
    return np.asarray(scores > np.float64(threshold))
