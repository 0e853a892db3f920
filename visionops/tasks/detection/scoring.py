"""Compute COCO's average precision, and precision and recall over confidence.

The values are computed by pycocotools, which has pitfalls: annotation ids must start at 1 (a detection matched to id 0
counts as unmatched), it fails without any detection, prints, and returns -1 for a class without instances, which must
be excluded from the mean. It also ignores all but the best 100 detections of a class on an image. This cap is part of
the definition of mAP; precision and recall count every detection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.layers import Boxes
from visionops.evaluation.resampling import mean_defined, resample
from visionops.tasks.detection.prediction import BoxPrediction

__all__ = ["CONFIDENCES", "CURVE_METRICS", "Scores", "score"]

CONFIDENCES: npt.NDArray[np.float64] = np.linspace(0, 1, 1001)
"""Confidences at which the curves are sampled."""
CURVE_METRICS = ("precision", "recall", "f1")
"""Means over classes at the confidence where the mean F1 is best."""

Floats = npt.NDArray[np.float64]

_COCO_CAP = 100
"""Maximum number of detections of a class on an image that COCO's average precision and recall use."""
_RECALL_POINTS: Floats = np.linspace(0, 1, 101)
"""Recall points of COCO."""
_CELLS = 2_000_000
"""Maximum number of values in an array over resamples, which bounds the memory for any number of detections."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """Scores per class (K of them). NaN for a class without instances; means leave it out.

    COCO's cap of 100 detections of a class on an image applies only to average precision and average recall. The curves
    over confidence, and values read from them, count every detection.
    """

    ap50: Floats
    """float64 (K,): average precision at IoU 0.5, 101 recall points, the best 100 detections of an image."""
    ap50_95: Floats
    """float64 (K,): mean over IoU 0.50, 0.55, … 0.95."""
    average_recall: Floats
    """float64 (K,): recall with the best 100 detections of an image, mean over the same IoUs."""
    instances: npt.NDArray[np.int64]
    """Number of instances, int64 (K,)."""
    recall_points: Floats
    """float64 (101,), the x of ``precision_at_recall``."""
    precision_at_recall: Floats
    """float64 (K, 101), interpolated, IoU 0.5, the best 100 detections of an image."""
    precision: Floats
    """float64 (K, 1001) over `CONFIDENCES`, IoU 0.5; 0 where nothing is detected."""
    recall: Floats
    """Recall, float64 (K, 1001)."""
    best: int
    """Index into `CONFIDENCES` where the mean F1 of the classes with instances is highest."""
    means: dict[str, float]
    """`CURVE_METRICS`: means over the classes with instances, at ``best``."""
    replicates: dict[str, Floats]
    """``map50``, ``map50_95`` and `CURVE_METRICS`, float64 (resamples,): means over classes on bootstrap resamples of
    the images. Each resample has its own best confidence and excludes classes without instances. NaN where it has
    none."""

    @property
    def f1(self) -> Floats:
        """Return the F1, float64 (K, 1001) over `CONFIDENCES`."""
        return _f1(self.precision, self.recall)

    @property
    def present(self) -> npt.NDArray[np.int64]:
        """Return the indices of the classes with instances."""
        return np.flatnonzero(self.instances)


def score(truth: Sequence[Boxes], predictions: Sequence[BoxPrediction], num_classes: int, resamples: int = 0) -> Scores:
    """Score predictions against the truth.

    Args:
        truth: True boxes of each image, class ids below ``num_classes``; at least one box in total.
        predictions: Predictions for the same images, in the same order, down to a low confidence.
        resamples: Number of bootstrap resamples of the images.
    """
    evaluator = _evaluate(truth, predictions, num_classes)
    precision = evaluator.eval["precision"][:, :, :, 0, 0]  # (IoUs, recall points, classes); all areas, COCO's cap
    recall = evaluator.eval["recall"][:, :, 0, 0]
    classes = [_match(evaluator, truth, class_id) for class_id in range(num_classes)]
    instances = np.array([c.instances.sum() for c in classes], dtype=np.int64)
    absent = instances == 0
    once = np.ones((1, len(truth)))
    curves = [_over_confidence(c, once) for c in classes]
    best, means = _means_at_best(classes, once)
    return Scores(
        ap50=np.where(absent, np.nan, precision[0].mean(axis=0)),
        ap50_95=np.where(absent, np.nan, precision.mean(axis=(0, 1))),
        average_recall=np.where(absent, np.nan, recall.mean(axis=0)),
        instances=instances,
        recall_points=np.asarray(evaluator.params.recThrs, dtype=np.float64),
        precision_at_recall=precision[0].T,
        precision=np.stack([c[0][:, 0] for c in curves]),
        recall=np.stack([c[1][:, 0] for c in curves]),
        best=int(best[0]),
        means={name: float(values[0]) for name, values in zip(CURVE_METRICS, means, strict=True)},
        replicates=_replicates(classes, len(truth), resamples),
    )


def _evaluate(truth: Sequence[Boxes], predictions: Sequence[BoxPrediction], num_classes: int) -> Any:
    """Return a `COCOeval` that was accumulated at COCO's cap, with matches of all detections.

    The library matches detections by falling score, so a cap does not change the matches before it.
    """
    from pycocotools.cocoeval import COCOeval

    most = max(int(np.bincount(p.class_ids, minlength=1).max()) for p in predictions)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(
            _coco(predictions, num_classes, _truth_columns(truth)),
            _coco(predictions, num_classes, _detection_columns(predictions)),
            "bbox",
        )
        evaluator.params.maxDets = [_COCO_CAP, most] if most > _COCO_CAP else [_COCO_CAP]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], ["all"]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


@dataclasses.dataclass(frozen=True, slots=True)
class _Matches:
    """Matches of the detections of one class (D of them, D' of these within COCO's cap)."""

    instances: Floats
    """Number of true boxes, float64 (images,)."""
    rows: npt.NDArray[np.int64]
    """Image of each detection, int64 (D',), best first."""
    hits: npt.NDArray[np.bool_]
    """Whether the detection matches a true box, bool (IoUs, D'), best first."""
    found: Any
    """Sparse float64 (1001, images): number of detections that match a true box at IoU 0.5 with a score above this
    confidence and not above the next."""
    answered: Any
    """Sparse float64 (1001, images): the same for all detections."""


def _match(evaluator: Any, truth: Sequence[Boxes], class_id: int) -> _Matches:
    """Collect the matches of a `COCOeval` that has evaluated only the area range "all"."""
    images = evaluator.evalImgs[class_id * len(truth) : (class_id + 1) * len(truth)]
    counts = [len(image["dtScores"]) if image else 0 for image in images]
    rows = np.repeat(np.arange(len(truth)), counts)
    rank = np.concatenate([np.arange(count) for count in counts])  # within an image the best come first
    scores = np.concatenate([image["dtScores"] for image in images if image] or [np.empty(0)])
    hits = np.concatenate([image["dtMatches"] > 0 for image in images if image] or [np.empty((10, 0), bool)], axis=1)
    order = np.argsort(-scores, kind="stable")
    capped = order[rank[order] < _COCO_CAP]
    return _Matches(
        instances=np.array([(t.class_ids == class_id).sum() for t in truth], dtype=np.float64),
        rows=rows[capped],
        hits=hits[:, capped],
        found=_by_confidence(scores[hits[0]], rows[hits[0]], len(truth)),
        answered=_by_confidence(scores, rows, len(truth)),
    )


def _by_confidence(scores: Floats, rows: npt.NDArray[np.int64], num_images: int) -> Any:
    """Count the scores of each image above a confidence and not above the next: sparse (1001, images)."""
    from scipy.sparse import csr_array

    last = np.searchsorted(CONFIDENCES, scores, side="left") - 1
    above_none = last < 0
    last, rows = last[~above_none], rows[~above_none]
    return csr_array((np.ones(len(last)), (last, rows)), shape=(len(CONFIDENCES), num_images))


def _replicates(classes: Sequence[_Matches], num_images: int, resamples: int) -> dict[str, Floats]:
    """Return the means over classes on resamples: the matches stay the same, only the weights of the images change."""
    if not resamples:
        return {}
    most = max(len(c.rows) for c in classes)
    precisions, curves = [], []
    for weights in resample(num_images, resamples):
        precisions += [_mean_average_precision(classes, part) for part in _split(weights, most)]
        curves += [_means_at_best(classes, part)[1] for part in _split(weights, len(CONFIDENCES))]
    values = np.vstack([np.hstack(precisions), np.hstack(curves)])
    return dict(zip(("map50", "map50_95", *CURVE_METRICS), values, strict=True))


def _split(weights: Floats, width: int) -> Iterator[Floats]:
    """Yield some rows at a time, so that an array of ``width`` numbers for each row stays small."""
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, len(weights), step):
        yield weights[start : start + step]


def _mean_average_precision(classes: Sequence[_Matches], weights: Floats) -> Floats:
    """Return mAP50 and mAP50-95, float64 (2, weightings)."""
    by_class = np.stack([_average_precision(c, weights) for c in classes])
    return np.stack([mean_defined(by_class[:, 0]), mean_defined(by_class.mean(axis=1))])


def _average_precision(matches: _Matches, weights: Floats) -> Floats:
    """Return the average precision of one class where images count several times, or not at all.

    With weights of one it equals the library's value.

    Args:
        weights: float64 (weightings, images).

    Returns:
        float64 (IoUs, weightings); NaN where no image that counts has an instance.
    """
    counted = weights[:, matches.rows]
    above = counted.cumsum(axis=1)
    positives = weights @ matches.instances
    result = np.full((len(matches.hits), len(weights)), np.nan)
    for t, is_hit in enumerate(matches.hits):
        columns = np.flatnonzero(is_hit)  # between two hits precision only falls
        found = counted[:, columns].cumsum(axis=1)
        seen = above[:, columns]
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        padded = np.hstack([envelope, np.zeros((len(weights), 1))])
        for b in np.flatnonzero(positives):
            at = np.searchsorted(found[b] / positives[b], _RECALL_POINTS, side="left")
            result[t, b] = padded[b, at].mean()
    return result


def _means_at_best(classes: Sequence[_Matches], weights: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Find the confidence with the best mean F1 of each weighting, and the means at it.

    Args:
        weights: float64 (weightings, images).

    Returns:
        Indices into `CONFIDENCES`, int64 (weightings,); and `CURVE_METRICS`, float64 (3, weightings), means over the
        classes that have an instance in an image that counts, NaN where none has.
    """
    sums = np.zeros((3, len(CONFIDENCES), len(weights)))
    present = np.zeros(len(weights))
    for c in classes:
        precision, recall = _over_confidence(c, weights)
        has_instances = weights @ c.instances > 0
        for row, values in enumerate((precision, recall, _f1(precision, recall))):
            sums[row] += values * has_instances
        present += has_instances
    best = sums[2].argmax(axis=0)
    at_best = sums[:, best, np.arange(len(weights))]
    return best, np.divide(at_best, present, out=np.full_like(at_best, np.nan), where=present > 0)


def _over_confidence(matches: _Matches, weights: Floats) -> tuple[Floats, Floats]:
    """Return precision and recall (1001, weightings) of one class at IoU 0.5, of all detections; 0 where undefined.

    Matching goes by falling score, so the matches above a confidence do not depend on lower scores.

    Args:
        weights: float64 (weightings, images).
    """
    each = np.ascontiguousarray(weights.T)
    found, answered = ((part @ each)[::-1].cumsum(axis=0)[::-1] for part in (matches.found, matches.answered))
    positives = np.broadcast_to(weights @ matches.instances, found.shape)
    precision = np.divide(found, answered, out=np.zeros_like(found), where=answered > 0)
    return precision, np.divide(found, positives, out=np.zeros_like(found), where=positives > 0)


def _f1(precision: Floats, recall: Floats) -> Floats:
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total != 0)


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
