"""COCO's average precision, and precision and recall over confidence.

The numbers are pycocotools' own. What it does silently wrong when used carelessly: annotation ids must start at 1 (a
detection matched to id 0 counts as unmatched), it fails without a single detection, prints, and gives -1 for a class
without instances, which must stay out of the mean.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Boxes
from visionops.evaluation.label_scoring import mean_defined, resample
from visionops.inference.prediction import BoxPrediction

__all__ = ["CONFIDENCES", "Scores", "score"]

CONFIDENCES: npt.NDArray[np.float64] = np.linspace(0, 1, 1001)
"""Where the curves over confidence are sampled."""

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """Scores per class (K of them). NaN for a class without instances; means leave it out."""

    ap50: Floats
    """float64 (K,): average precision at IoU 0.5, 101 recall points, at most 100 detections an image."""
    ap50_95: Floats
    """float64 (K,): the mean over IoU 0.50, 0.55, … 0.95."""
    average_recall: Floats
    """float64 (K,): recall at 100 detections an image, mean over the same IoUs."""
    instances: npt.NDArray[np.int64]
    """int64 (K,)."""
    recall_points: Floats
    """float64 (101,), the x of ``precision_at_recall``."""
    precision_at_recall: Floats
    """float64 (K, 101), interpolated, IoU 0.5."""
    precision: Floats
    """float64 (K, 1001) over `CONFIDENCES`, IoU 0.5; 0 where nothing is detected."""
    recall: Floats
    """float64 (K, 1001)."""
    replicates: dict[str, Floats]
    """``map50`` and ``map50_95``, float64 (resamples,): the means over classes on bootstrap resamples of the images."""

    @property
    def f1(self) -> Floats:
        """float64 (K, 1001) over `CONFIDENCES`."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total != 0)

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Indices of the classes that have instances."""
        return np.flatnonzero(self.instances)

    @property
    def best(self) -> int:
        """Index into `CONFIDENCES` where the mean F1 of the classes that have instances is highest."""
        return int(self.f1[self.present].mean(axis=0).argmax())


def score(truth: Sequence[Boxes], predictions: Sequence[BoxPrediction], num_classes: int, resamples: int = 0) -> Scores:
    """Compare predictions with the truth.

    Args:
        truth: Of each image; class ids below ``num_classes``. At least one box over all.
        predictions: Of the same images, in the same order, down to a low confidence.
        resamples: Bootstrap resamples of the images.
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(
            _coco(predictions, num_classes, _truth_columns(truth)),
            _coco(predictions, num_classes, _detection_columns(predictions)),
            "bbox",
        )
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # (IoUs, recall points, classes); all areas, 100 detections
    recall = evaluator.eval["recall"][:, :, 0, -1]
    instances = np.bincount(np.concatenate([t.class_ids for t in truth]), minlength=num_classes)
    absent = instances == 0
    curves = _over_confidence(evaluator, instances, len(truth))
    return Scores(
        ap50=np.where(absent, np.nan, precision[0].mean(axis=0)),
        ap50_95=np.where(absent, np.nan, precision.mean(axis=(0, 1))),
        average_recall=np.where(absent, np.nan, recall.mean(axis=0)),
        instances=instances.astype(np.int64),
        recall_points=np.asarray(evaluator.params.recThrs, dtype=np.float64),
        precision_at_recall=precision[0].T,
        precision=curves[0],
        recall=curves[1],
        replicates=_replicates(evaluator, truth, num_classes, resamples),
    )


def _replicates(evaluator: Any, truth: Sequence[Boxes], num_classes: int, resamples: int) -> dict[str, Floats]:
    """The means over classes on resamples: the matches stay, only how often each image counts changes."""
    batches = []
    for weights in resample(len(truth), resamples):
        by_class = [weighted_average_precision(evaluator, truth, k, weights) for k in range(num_classes)]
        batches.append(np.stack([mean_defined(np.stack([c[0] for c in by_class])), _mean_over_ious(by_class)]))
    both = np.concatenate(batches, axis=1) if batches else np.empty((2, 0))
    return {"map50": both[0], "map50_95": both[1]} if batches else {}


def _mean_over_ious(by_class: Sequence[Floats]) -> Floats:
    return mean_defined(np.stack([values.mean(axis=0) for values in by_class]))


def weighted_average_precision(evaluator: Any, truth: Sequence[Boxes], class_id: int, weights: Floats) -> Floats:
    """Average precision of one class where images count several times, or not at all.

    With weights of one it is what the library says.

    Args:
        evaluator: A `COCOeval` that has evaluated: its matches are taken.
        weights: float64 (weightings, images).

    Returns:
        float64 (IoUs, weightings); NaN where no image that counts has an instance.
    """
    first = class_id * len(evaluator.params.areaRng) * len(truth)
    images = evaluator.evalImgs[first : first + len(truth)]
    rows = np.concatenate([np.full(len(e["dtScores"]), i) for i, e in enumerate(images) if e] or [np.empty(0)])
    scores = np.concatenate([e["dtScores"] for e in images if e] or [np.empty(0)])
    order = np.argsort(-scores, kind="stable")
    hits = np.concatenate([e["dtMatches"] > 0 for e in images if e] or [np.empty((10, 0), bool)], axis=1)[:, order]
    counted = weights[:, rows[order].astype(np.int64)]
    above = counted.cumsum(axis=1)
    positives = weights @ np.array([(t.class_ids == class_id).sum() for t in truth], dtype=np.float64)
    result = np.full((len(hits), len(weights)), np.nan)
    for t, is_hit in enumerate(hits):
        columns = np.flatnonzero(is_hit)  # between two hits precision only falls
        found = counted[:, columns].cumsum(axis=1)
        seen = above[:, columns]
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.hstack([envelope, np.zeros((len(weights), 1))])
        for b in np.flatnonzero(positives):
            at = np.searchsorted(found[b] / positives[b], evaluator.params.recThrs, side="left")
            result[t, b] = padded[b, at].mean()
    return result


def _over_confidence(evaluator: Any, instances: npt.NDArray[np.int64], num_images: int) -> tuple[Floats, Floats]:
    """Precision and recall (K, 1001) at IoU 0.5, from the matches that the library made.

    Matching goes by falling score, so that the matches above a confidence do not depend on what lies below it.
    """
    areas = len(evaluator.params.areaRng)
    precision, recall = np.zeros((2, len(instances), len(CONFIDENCES)))
    for k in np.flatnonzero(instances):
        first = int(k) * areas * num_images
        images = [e for e in evaluator.evalImgs[first : first + num_images] if e is not None]
        scores = np.concatenate([np.asarray(e["dtScores"], dtype=np.float64) for e in images])
        hits = np.concatenate([e["dtMatches"][0] > 0 for e in images])
        order = np.argsort(scores, kind="stable")
        above = len(scores) - np.searchsorted(scores[order], CONFIDENCES, side="right")
        found = np.concatenate([[0], np.cumsum(hits[order][::-1])])[above]
        precision[k] = np.divide(found, above, out=np.zeros(len(CONFIDENCES)), where=above != 0)
        recall[k] = found / instances[k]
    return precision, recall


Columns = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, Floats]
"""Image row, class id, xyxy (N, 4), score."""


def _truth_columns(truth: Sequence[Boxes]) -> Columns:
    rows = np.repeat(np.arange(len(truth)), [len(t.class_ids) for t in truth])
    class_ids = np.concatenate([t.class_ids for t in truth]).astype(np.int64)
    return rows, class_ids, np.concatenate([t.xyxy for t in truth]), np.ones(len(rows))


def _detection_columns(predictions: Sequence[BoxPrediction]) -> Columns:
    rows = np.repeat(np.arange(len(predictions)), [len(p.scores) for p in predictions])
    class_ids = np.concatenate([p.class_ids for p in predictions]).astype(np.int64)
    boxes = np.concatenate([p.boxes for p in predictions]).astype(np.float64)
    return rows, class_ids, boxes, np.concatenate([p.scores for p in predictions]).astype(np.float64)


def _coco(predictions: Sequence[BoxPrediction], num_classes: int, columns: Columns) -> Any:
    from pycocotools.coco import COCO

    rows, class_ids, xyxy, scores = columns
    xywh = np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])
    areas = xywh[:, 2] * xywh[:, 3]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i + 1, "width": p.width, "height": p.height} for i, p in enumerate(predictions)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(num_classes)],
        "annotations": [
            {"id": i + 1, "image_id": r + 1, "category_id": c + 1, "bbox": b, "area": a, "score": s, "iscrowd": 0}
            for i, (r, c, b, a, s) in enumerate(
                zip(rows.tolist(), class_ids.tolist(), xywh.tolist(), areas.tolist(), scores.tolist(), strict=True)
            )
        ],
    }
    coco.createIndex()
    return coco
