"""Every metric of a gate is resampled: each of a task's `gate_metrics` has replicates and an interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.bundles import encode, filled, make_bundle, make_label_bundle
from visionops.config import Config
from visionops.data.dataset import Dataset
from visionops.data.layers import Attribute
from visionops.evaluation.report import load_evaluation
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import Head
from visionops.tasks.classification.evaluation import evaluate_labels
from visionops.tasks.detection.evaluation import evaluate
from visionops.tasks.detection.scoring import CURVE_METRICS
from visionops.tasks.spec import task_for

RESAMPLES = 100
SHOWN = [[("red", 0, 0)], [("red", 1, 1)], [("green", 2, 2)]]
LABELLED = [[("red", 0, 0), ("red", 3, 3)], [("red", 1, 1)], []]
"""One red cell has a label without an object, and a green one has no label."""
HEADS = (
    Head(name="state", class_names=("ok", "defective"), positive="defective"),
    Head(name="colour", class_names=("x", "y", "z")),
)


def scoring_of(task: str) -> EvaluationPlan:
    source = {"source": {"kind": "sample"}}
    if task != "detection":
        source = {"source": {"kind": "folder", "path": "."}, "format": "folders"}
    small = {"resamples": RESAMPLES, "latency_images": 1, "worst_images": 0}
    return Config.model_validate({"name": "metrics", "task": task, "data": source, "evaluation": small}).scoring


def detection(folder: Path, make_dataset: Callable[..., Dataset]) -> Evaluation:
    bundle, dataset = make_bundle(folder / "bundle"), make_dataset(SHOWN, LABELLED)
    return evaluate(bundle, dataset, scoring_of("detection"), folder / "evaluation")


def labels(folder: Path, task: str, heads: tuple[Head, ...], ids: dict[str, list[int]]) -> Evaluation:
    """Evaluate red, green and blue images; those where green is brighter than red are predicted as defective."""
    paths = [folder / f"{row}.png" for row in range(3)]
    for path, colour in zip(paths, np.eye(3, dtype=int) * 255, strict=True):
        path.write_bytes(encode(filled(tuple(colour.tolist()))))
    images = {
        "key": [path.name for path in paths],
        "path": [str(path) for path in paths],
        "sha256": [f"{row:064x}" for row in range(3)],
        "split": ["test"] * 3,
    }
    attributes = tuple(Attribute(head.name, head.class_names, head.positive) for head in heads)
    dataset = Dataset.from_columns("colours", (), images, {}, attributes=attributes, labels=ids)
    bundle = make_label_bundle(folder / "bundle", heads=heads)
    return evaluate_labels(bundle, dataset, scoring_of(task), folder / "evaluation")


@pytest.fixture(params=["detection", "classification", "attributes"])
def evaluated(request, tmp_path, make_dataset) -> tuple[str, Evaluation]:
    """Return evaluations in which some resamples lack a class."""
    if request.param == "detection":
        return request.param, detection(tmp_path, make_dataset)
    if request.param == "classification":
        return request.param, labels(tmp_path, request.param, HEADS[:1], {"state": [0, 1, 1]})
    assert request.param == "attributes"
    return request.param, labels(tmp_path, request.param, HEADS, {"state": [0, 1, 1], "colour": [0, 0, 1]})


def test_every_metric_that_a_gate_may_have_is_resampled(evaluated):
    task, evaluation = evaluated
    for name in task_for(task).gate_metrics:
        values = np.array(evaluation.replicates[name])
        assert len(values) == RESAMPLES, name
        assert np.isfinite(values).any(), name
        low, high = evaluation.intervals[name]
        assert low <= evaluation.metrics[name] <= high, name
        assert low < high or evaluation.metrics[name] == low == high, name


def test_undefined_resamples_are_kept_as_nan(evaluated):
    task, evaluation = evaluated
    loaded = load_evaluation(evaluation.folder)
    for name in task_for(task).gate_metrics:
        np.testing.assert_array_equal(loaded.replicates[name], evaluation.replicates[name])
    undefined = {name for name in task_for(task).gate_metrics if any(math.isnan(v) for v in loaded.replicates[name])}
    assert (
        undefined
        == {
            "detection": set(task_for(task).gate_metrics),  # only the third image has no box
            "classification": {"f1", "roc_auc", "pr_auc"},
            "attributes": {"roc_auc", "pr_auc"},
        }[task]
    )


def test_intervals_of_a_detector_are_in_its_report(tmp_path, make_dataset):
    evaluation = detection(tmp_path, make_dataset)
    assert {"map50", "map50_95", *CURVE_METRICS} <= evaluation.intervals.keys()
    low, high = evaluation.intervals["recall"]
    assert low < high
    assert f"{low:.3f} to {high:.3f}" in (evaluation.folder / "report.html").read_text()
