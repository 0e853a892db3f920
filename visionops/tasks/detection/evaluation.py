"""Score a detector on the test split, with the engine and the precision that will serve it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset
from visionops.data.layers import Boxes
from visionops.errors import MetricError
from visionops.evaluation.measuring import class_ids_in_bundle, measure_latency, read_test_image, select_test
from visionops.evaluation.report import NO_GALLERY, Page, write_report, writing
from visionops.evaluation.resampling import percentile_intervals
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.tasks.detection.decoder import BoxDecoder
from visionops.tasks.detection.matching import Matches, confusion_matrix, match
from visionops.tasks.detection.pictures import EXAMPLE_COLOURS, Example, draw_charts, draw_examples
from visionops.tasks.detection.prediction import BoxPrediction
from visionops.tasks.detection.scoring import CONFIDENCES, Scores, score

__all__ = ["evaluate"]

_SCORING = {"confidence": 0.001, "iou": 0.7}
"""Lowest confidence, as in the trainer's validation, so that scores have the same meaning."""
_WORST = "By score: one for each missed box plus the confidence of each wrong box, at the serving threshold."
_NO_WORST = "None: at the serving threshold every box was found and there were no false positives."


def evaluate(bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path | None) -> Evaluation:
    """Score the bundle on the test split.

    Average precision and the curves use all detections above 0.001, with several classes for each box, as in the
    trainer's validation. ``precision``, ``recall`` and ``f1`` are means over classes at the confidence where the mean
    F1 is best. The two mAPs and ``average_recall`` use the best 100 detections of a class on an image, as COCO defines
    them; all other metrics use all. ``serving_precision``, ``serving_recall``, the confusion matrix and the pictures
    use the server's answers: its threshold, one class for each box. Images are resampled for the intervals and
    replicates of the two mAPs, ``precision``, ``recall`` and ``f1``.

    Args:
        dataset: Data set whose test split is used; its images are at ``path``.
        folder: Folder for ``evaluation.json``, ``report.html`` and the pictures; None computes only the figures.

    Raises:
        DataError: The test split is empty or has no boxes, it has a class that the bundle does not have, an image
            cannot be read, or ``folder`` cannot be written.
    """
    test = select_test(dataset)
    truth = _truth(test, bundle)
    serving = {"confidence": scoring.serving.confidence, "iou": scoring.serving.iou}
    thresholds = bundle.card.thresholds.model_copy(update=serving)  # max_detections is the bundle's, as in the server
    predictor = Predictor(bundle, scoring.serving.engine, thresholds=thresholds)
    wide, served = _predict_all(predictor, test)
    names = bundle.card.class_names
    scores = score(truth, wide, len(names), scoring.evaluation.resamples)
    matches = [match(t, p) for t, p in zip(truth, served, strict=True)]
    evaluation = Evaluation(
        folder=folder or Path(),
        metrics=_metrics(scores, matches) | measure_latency(predictor, test, scoring.evaluation.latency_images),
        per_class=_per_class(scores, names),
        num_images=test.num_images,
        test_fingerprint=test.fingerprint(),
        bundle_digest=bundle.digest,
        engine=scoring.serving.engine.value,
        precision=bundle.card.precision.value,
        headline=("map50", "map50_95", "precision", "recall", "f1"),
        intervals=percentile_intervals(scores.replicates),
        replicates={name: tuple(values.tolist()) for name, values in scores.replicates.items()},
    )
    if folder is not None:
        with writing(evaluation) as unfinished:
            write_report(unfinished, scoring, _page(unfinished, scoring, scores, matches, test))
    return evaluation


def _page(
    evaluation: Evaluation, scoring: EvaluationPlan, scores: Scores, matches: list[Matches], test: Dataset
) -> Page:
    """Draw the pictures into the evaluation's folder."""
    names, folder, metrics = tuple(evaluation.per_class), evaluation.folder, evaluation.metrics
    confusion = confusion_matrix(matches, len(names))
    examples, gallery = _examples(test, matches), scoring.evaluation.worst_images
    worst = draw_examples(_worst(examples, gallery), names, folder, "worst")
    return Page(
        notes=(
            "mAP as COCO defines it (pycocotools): the best 100 detections of a class on an image. Precision, "
            "recall and F1 count all detections. They are means over classes at confidence "
            f"{metrics['best_confidence']:.2f}, where the mean F1 is best. At the serving threshold "
            f"{scoring.serving.confidence:g}, over all boxes: precision {metrics['serving_precision']:.3f}, "
            f"recall {metrics['serving_recall']:.3f}."
        ),
        table="class",
        columns=(
            ("instances", "boxes"),
            ("map50", "AP50"),
            ("map50_95", "AP50-95"),
            ("precision", "precision"),
            ("recall", "recall"),
        ),
        charts=draw_charts(scores, confusion, names, scoring.serving.confidence, folder),
        worst=worst,
        worst_notes=_WORST if worst else _NO_WORST if gallery else NO_GALLERY,
        best=draw_examples(_best(examples) if gallery else [], names, folder, "best"),
        legend=EXAMPLE_COLOURS,
    )


def _truth(test: Dataset, bundle: ModelBundle) -> list[Boxes]:
    """Return the true boxes of every test image, with class ids in the bundle's order."""
    if not test.num_boxes:
        raise MetricError(f"{test.name}: the test split has no boxes, so nothing can be scored; label some images")
    to_bundle = class_ids_in_bundle(test.name, bundle.folder, test.class_names, bundle.card.class_names)
    return [Boxes(b.xyxy, to_bundle[b.class_ids]) for b in test.boxes_by_image()]


def _predict_all(predictor: Predictor, test: Dataset) -> tuple[list[BoxPrediction], list[BoxPrediction]]:
    """Return two predictions for each image: all boxes above a low confidence for scoring, and the server's answer."""
    decoder = BoxDecoder(predictor.bundle.card, predictor.thresholds)
    wide, served = [], []
    for row, key in enumerate(test.column("key")):
        views = predictor.infer(read_test_image(test, row), where=key)
        wide.append(decoder.decode(views, _SCORING, multi_label=True))
        served.append(decoder.decode(views, {}))
    return wide, served


def _metrics(scores: Scores, matches: list[Matches]) -> dict[str, float]:
    correct = sum(int(m.correct.sum()) for m in matches)
    detections = sum(len(m.partner) for m in matches)
    return {
        "map50": float(np.nanmean(scores.ap50)),
        "map50_95": float(np.nanmean(scores.ap50_95)),
        **scores.means,
        "best_confidence": float(CONFIDENCES[scores.best]),
        "average_recall": float(np.nanmean(scores.average_recall)),
        "serving_precision": correct / detections if detections else 0.0,
        "serving_recall": correct / int(scores.instances.sum()),
    }


def _per_class(scores: Scores, names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    def at_best(curve: npt.NDArray[np.float64], k: int) -> float:
        return float(curve[k, scores.best]) if scores.instances[k] else float("nan")

    return {
        name: {
            "map50": float(scores.ap50[k]),
            "map50_95": float(scores.ap50_95[k]),
            "precision": at_best(scores.precision, k),
            "recall": at_best(scores.recall, k),
            "instances": float(scores.instances[k]),
        }
        for k, name in enumerate(names)
    }


def _examples(test: Dataset, matches: list[Matches]) -> list[Example]:
    rows = zip(test.column("key"), test.paths(), matches, strict=True)
    return [Example(key, path, m, test.white) for key, path, m in rows]


def _worst(examples: list[Example], count: int) -> list[Example]:
    wrong = [e for e in examples if e.matches.badness > 0]
    return sorted(wrong, key=lambda e: -e.matches.badness)[:count]


def _best(examples: list[Example], count: int = 4) -> list[Example]:
    """Return images without errors, most boxes first, because an empty image shows nothing."""
    right = [e for e in examples if e.matches.badness == 0 and len(e.matches.partner)]
    return sorted(right, key=lambda e: -len(e.matches.partner))[:count]
