"""Score a detector on the test split, with the engine and the precision that will serve it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.config import Config
from visionops.data.dataset import Boxes, Dataset, Split
from visionops.data.files import atomic_folder
from visionops.errors import DataError
from visionops.evaluation.matching import Matches, confusion_matrix, match
from visionops.evaluation.pictures import Example, draw_charts, draw_examples
from visionops.evaluation.report import write_report
from visionops.evaluation.scoring import CONFIDENCES, Scores, score
from visionops.inference.bundle import ModelBundle, Thresholds
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Predictor
from visionops.tasks.base import Evaluation

__all__ = ["evaluate"]

_LOW_CONFIDENCE = 0.001
_SCORING_IOU = 0.7
"""As in the trainer's validation: a score means the same there and here."""


def evaluate(bundle: ModelBundle, dataset: Dataset, config: Config, folder: Path) -> Evaluation:
    """Score the bundle on the test split.

    Average precision and the curves come from all detections above 0.001, several classes a box, as in the trainer's
    validation; ``precision`` and ``recall`` are means over classes at the confidence where the mean F1 is best.
    ``serving_precision``, ``serving_recall``, the confusion matrix and the pictures come from what the server would
    answer: its threshold, one class a box.

    Args:
        dataset: Its test split is used; its images lie where ``path`` says.
        folder: Receives ``evaluation.json``, ``report.html`` and the pictures.

    Raises:
        DataError: The test split is empty or has no boxes, knows a class that the bundle does not, or an image cannot
            be read, or ``folder`` cannot be written.
    """
    test = dataset.select_split(Split.TEST)
    truth = _truth(test, bundle)
    predictor = Predictor(bundle, config.serving.engine, thresholds=_serving_thresholds(config))
    wide, served = _predict_all(predictor, test)
    names = bundle.card.class_names
    scores = score(truth, wide, len(names))
    matches = [match(t, p) for t, p in zip(truth, served, strict=True)]
    evaluation = Evaluation(
        folder=folder,
        metrics=_metrics(scores, matches) | _latency(predictor, test, config.evaluation.latency_images),
        per_class=_per_class(scores, names),
        num_images=test.num_images,
        test_fingerprint=test.fingerprint(),
        bundle_digest=bundle.digest,
        engine=config.serving.engine.value,
        precision=bundle.card.precision.value,
    )
    try:
        _write(evaluation, config, scores, matches, test)
    except OSError as error:
        place = error.filename or folder
        raise DataError(f"{place}: the evaluation cannot be written ({error.strerror}); free or open it") from error
    return evaluation


def _write(evaluation: Evaluation, config: Config, scores: Scores, matches: list[Matches], test: Dataset) -> None:
    names = tuple(evaluation.per_class)
    evaluation.folder.mkdir(parents=True, exist_ok=True)
    # New files, never new bytes in the old ones: those may be hard links into the artifact of an earlier run.
    with atomic_folder(evaluation.folder, replace=True) as folder:
        confusion = confusion_matrix(matches, len(names))
        charts = draw_charts(scores, confusion, names, config.serving.confidence, folder)
        examples = _examples(test, matches)
        worst = draw_examples(_worst(examples, config.evaluation.worst_images), names, folder, "worst")
        best = draw_examples(_best(examples), names, folder, "best")
        write_report(dataclasses.replace(evaluation, folder=folder), config, charts, worst, best)


def _serving_thresholds(config: Config) -> Thresholds:
    return Thresholds(confidence=config.serving.confidence, iou=config.serving.iou)


def _truth(test: Dataset, bundle: ModelBundle) -> list[Boxes]:
    """The boxes of every test image, class ids in the bundle's order."""
    if not test.num_images:
        raise DataError(f"{test.name}: the test split has no images; give it some, or let data.split.test cut it")
    if not test.num_boxes:
        raise DataError(f"{test.name}: the test split has no boxes, so that nothing can be scored; label some")
    ids = {name: i for i, name in enumerate(bundle.card.class_names)}
    unknown = [name for name in test.class_names if name not in ids]
    if unknown:
        raise DataError(f"{test.name}: the bundle {bundle.folder} does not know {', '.join(unknown)}; train it again")
    to_bundle = np.array([ids[name] for name in test.class_names], dtype=np.int32)
    return [Boxes(b.xyxy, to_bundle[b.class_ids]) for b in test.boxes_by_image()]


def _read(test: Dataset, row: int) -> bytes:
    key, path = test.images["key"][row].as_py(), test.images["path"][row].as_py()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{key}: test image cannot be read ({error.strerror}: {path}); fetch the data again") from error


def _predict_all(predictor: Predictor, test: Dataset) -> tuple[list[Prediction], list[Prediction]]:
    """Per image: everything above a low confidence, for scoring; and what the server would answer."""
    wide, served = [], []
    for row, key in enumerate(test.column("key")):
        raw = predictor.infer(_read(test, row), where=key)
        wide.append(predictor.decode(raw, confidence=_LOW_CONFIDENCE, iou=_SCORING_IOU, multi_label=True))
        served.append(predictor.decode(raw))
    return wide, served


def _latency(predictor: Predictor, test: Dataset, count: int) -> dict[str, float]:
    """Milliseconds from encoded bytes to `Prediction`, one image at a time."""
    predictor.warm_up()
    spans = []
    for row in range(min(count, test.num_images)):
        data = _read(test, row)
        start = time.perf_counter()
        predictor.predict(data)
        spans.append((time.perf_counter() - start) * 1000)
    p50, p95 = np.percentile(spans, [50, 95])
    return {"latency_ms_p50": float(p50), "latency_ms_p95": float(p95)}


def _metrics(scores: Scores, matches: list[Matches]) -> dict[str, float]:
    best, present = scores.best, scores.present
    correct = sum(int(m.correct.sum()) for m in matches)
    detections = sum(len(m.partner) for m in matches)
    return {
        "map50": float(np.nanmean(scores.ap50)),
        "map50_95": float(np.nanmean(scores.ap50_95)),
        "precision": float(scores.precision[present, best].mean()),
        "recall": float(scores.recall[present, best].mean()),
        "f1": float(scores.f1[present, best].mean()),
        "best_confidence": float(CONFIDENCES[best]),
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
    return [Example(key, path, m) for key, path, m in rows]


def _worst(examples: list[Example], count: int) -> list[Example]:
    wrong = [e for e in examples if e.matches.badness > 0]
    return sorted(wrong, key=lambda e: -e.matches.badness)[:count]


def _best(examples: list[Example], count: int = 4) -> list[Example]:
    """Images that went well, the most boxes first: an empty image teaches nothing."""
    right = [e for e in examples if e.matches.badness == 0 and len(e.matches.partner)]
    return sorted(right, key=lambda e: -len(e.matches.partner))[:count]
