"""Score the labels of a classifier on the test split, with the engine that will serve it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.errors import DataError, MetricError
from visionops.evaluation.measuring import class_ids_in_bundle, measure_latency, read_test_image, select_test
from visionops.evaluation.report import NO_GALLERY, Page, write_report, writing
from visionops.evaluation.resampling import Floats, mean_defined, percentile_intervals, resample
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import Head, ModelBundle
from visionops.inference.predictor import Predictor
from visionops.tasks.classification.pictures import LabelExample, draw_label_charts, draw_label_examples
from visionops.tasks.classification.prediction import LabelPrediction
from visionops.tasks.classification.scoring import (
    CLASS_METRICS,
    LABEL_METRICS,
    Outcome,
    calibration_error,
    figures,
    log_loss,
)

__all__ = ["evaluate_labels"]

_CLASSIFICATION_HEADLINE = ("balanced_accuracy", "accuracy", "f1", "roc_auc")
_ATTRIBUTES_HEADLINE = ("accuracy", "balanced_accuracy", "exact_match")
_BEST = 4
_NOTES = (
    "Balanced accuracy is the mean recall over classes. {f1} Areas are of one class against the others: under the ROC "
    "curve, and average precision for PR. Calibration error: 15 bins of the top probability. What is not defined, as "
    "the recall of a class without images, stays out of every mean.{mean}"
)
_TITLES = {
    "balanced_accuracy": "balanced",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "f1": "F1",
    "ece": "calibration error",
}


def evaluate_labels(bundle: ModelBundle, dataset: Dataset, scoring: EvaluationPlan, folder: Path | None) -> Evaluation:
    """Score the bundle on the test split.

    ``metrics`` has `visionops.tasks.settings.METRICS`, the calibration error ``ece``, the log loss ``nll`` and the
    latency; for several attributes means over them, and ``exact_match``. A metric that is undefined on the test split
    is left out.
    Images are resampled for ``intervals`` (for a row of ``per_class`` under ``row.metric``) and ``replicates``.

    Args:
        dataset: Data set whose test split is used; its images are at ``path``.
        folder: Folder for ``evaluation.json``, ``report.html`` and the pictures; None computes only the figures.

    Raises:
        DataError: The test split is empty or has no labels, or the gate's metric is undefined on it; it has an
            attribute or a class that the bundle does not have; an image cannot be read; or ``folder`` cannot be
            written.
    """
    test = select_test(dataset)
    truth = _truth(test, bundle)
    predictor = Predictor(bundle, scoring.serving.engine)
    outcomes = _outcomes(bundle.card.heads, truth, _predict_all(predictor, test))
    point = {name: float(value[0]) for name, value in figures(outcomes, np.ones((1, test.num_images))).items()}
    replicates = _resampled(outcomes, test.num_images, scoring.evaluation.resamples)
    metrics = _metrics(point, outcomes)
    if scoring.metric not in metrics:
        raise MetricError(
            f"{test.name}: {scoring.metric} is not defined on the test split, where one class has all images or "
            "none; add images of the others, or choose another gate.metric"
        )
    headline = _CLASSIFICATION_HEADLINE if len(outcomes) == 1 else _ATTRIBUTES_HEADLINE
    evaluation = Evaluation(
        folder=folder or Path(),
        metrics=metrics | measure_latency(predictor, test, scoring.evaluation.latency_images),
        per_class=_per_class(point, outcomes) if len(outcomes) == 1 else _per_attribute(point, outcomes),
        num_images=test.num_images,
        test_fingerprint=test.fingerprint(),
        bundle_digest=bundle.digest,
        engine=scoring.serving.engine.value,
        precision=bundle.card.precision.value,
        headline=tuple(name for name in headline if name in metrics),
        intervals=percentile_intervals(replicates),
        replicates={name: tuple(values.tolist()) for name, values in replicates.items() if name in metrics},
    )
    if folder is not None:
        with writing(evaluation) as unfinished:
            write_report(unfinished, scoring, _page(unfinished, scoring, outcomes, test, predictor))
    return evaluation


def _truth(test: Dataset, bundle: ModelBundle) -> npt.NDArray[np.int64]:
    """Return class ids int64 (images, heads) in the bundle's order of heads and classes; -1 where unknown."""
    heads, attributes = bundle.card.heads, test.attributes
    pairs = _pair(test.name, bundle, attributes)
    labels = test.label_array()
    if not (labels >= 0).any():
        raise MetricError(f"{test.name}: the test split has no labels, so nothing can be scored; label some images")
    truth = np.full((test.num_images, len(heads)), -1, dtype=np.int64)
    for column, (head, attribute) in enumerate(pairs):
        ids = class_ids_in_bundle(test.name, bundle.folder, attribute.class_names, head.class_names)
        given = labels[:, attributes.index(attribute)]
        truth[:, column] = np.where(given >= 0, ids[given], -1)
    return truth


def _pair(name: str, bundle: ModelBundle, attributes: tuple[Attribute, ...]) -> list[tuple[Head, Attribute]]:
    """Pair each head with the data set's labels: by name, or where there is one of each, whatever their names."""
    heads = bundle.card.heads
    if len(heads) == len(attributes) == 1:
        return [(heads[0], attributes[0])]
    by_name = {attribute.name: attribute for attribute in attributes}
    for kind, missing in (
        ("does not know", by_name.keys() - {head.name for head in heads}),
        ("has attributes that the data set does not have:", {head.name for head in heads} - by_name.keys()),
    ):
        if missing:
            raise DataError(f"{name}: the bundle {bundle.folder} {kind} {', '.join(sorted(missing))}; train it again")
    return [(head, by_name[head.name]) for head in heads]


def _predict_all(predictor: Predictor, test: Dataset) -> list[LabelPrediction]:
    predictions = []
    for row, key in enumerate(test.column("key")):
        prediction = predictor.predict(read_test_image(test, row), where=key)
        assert isinstance(prediction, LabelPrediction)
        predictions.append(prediction)
    return predictions


def _outcomes(
    heads: tuple[Head, ...], truth: npt.NDArray[np.int64], predictions: list[LabelPrediction]
) -> list[Outcome]:
    return [
        Outcome(
            head,
            truth[:, column],
            np.stack([p.answers[column].probabilities for p in predictions]).astype(np.float64),
            np.array([p.answers[column].class_id for p in predictions], dtype=np.int64),
        )
        for column, head in enumerate(heads)
    ]


def _resampled(outcomes: list[Outcome], num_images: int, resamples: int) -> dict[str, Floats]:
    batches = [figures(outcomes, weights) for weights in resample(num_images, resamples)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]} if batches else {}


def _metrics(point: dict[str, float], outcomes: list[Outcome]) -> dict[str, float]:
    of_all = {name: point[name] for name in (*LABEL_METRICS, "exact_match") if name in point}
    of_all["ece"] = float(mean_defined(np.array([calibration_error(outcome) for outcome in outcomes])))
    of_all["nll"] = float(mean_defined(np.array([log_loss(outcome) for outcome in outcomes])))
    return {name: value for name, value in of_all.items() if not np.isnan(value)}


def _per_class(point: dict[str, float], outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    (outcome,) = outcomes
    return {
        name: {"instances": float((outcome.truth == k).sum())} | {m: point[f"{name}.{m}"] for m in CLASS_METRICS}
        for k, name in enumerate(outcome.head.class_names)
    }


def _per_attribute(point: dict[str, float], outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    return {
        outcome.head.name: {"instances": float(outcome.is_known.sum())}
        | {m: point[f"{outcome.head.name}.{m}"] for m in LABEL_METRICS}
        | {"ece": calibration_error(outcome), "nll": log_loss(outcome)}
        for outcome in outcomes
    }


def _page(
    evaluation: Evaluation, scoring: EvaluationPlan, outcomes: list[Outcome], test: Dataset, predictor: Predictor
) -> Page:
    """Draw the pictures into the evaluation's folder."""
    examples, gallery = _examples(test, outcomes), scoring.evaluation.worst_images
    worst = sorted((e for e in examples if e.is_wrong), key=lambda e: -e.badness)[:gallery]
    positive = outcomes[0].head.positive
    many = len(outcomes) > 1
    mean_f1 = "F1 is of the class that is looked for where there is one, else the mean over classes."
    shown = [*LABEL_METRICS, "ece"] if many else CLASS_METRICS
    return Page(
        notes=_NOTES.format(
            f1=mean_f1 if many or positive is None else f"F1 is of {positive}.",
            mean=" Figures over all attributes are means." if many else "",
        ),
        table="attribute" if many else "class",
        columns=(("instances", "images"), *((name, _TITLES.get(name, name)) for name in shown)),
        charts=draw_label_charts(outcomes, evaluation, evaluation.folder),
        worst=draw_label_examples(worst, predictor, evaluation.folder, "worst"),
        worst_notes=(
            f"By how little probability the truth was given{', over all that is wrong' if many else ''}. Beside each "
            "image, in colour, what spoke for the wrong answer: parts without which its odds fall."
            if worst
            else "None: every image was answered correctly."
            if gallery
            else NO_GALLERY
        ),
        best=draw_label_examples(_best(examples) if gallery else [], predictor, evaluation.folder, "best"),
    )


def _examples(test: Dataset, outcomes: list[Outcome]) -> list[LabelExample]:
    rows = enumerate(zip(test.column("key"), test.paths(), strict=True))
    return [LabelExample(key, path, outcomes, row) for row, (key, path) in rows]


def _best(examples: list[LabelExample]) -> list[LabelExample]:
    """Return the most confident correct examples, one of each true class before a second of any."""
    right = sorted((e for e in examples if e.is_known and not e.is_wrong), key=lambda e: e.doubt)
    seen: dict[tuple[int, ...], int] = {}
    rank = []
    for example in right:
        seen[example.truth] = seen.get(example.truth, 0) + 1
        rank.append(seen[example.truth])
    order = sorted(range(len(right)), key=lambda i: rank[i])
    return [right[i] for i in order[:_BEST]]
