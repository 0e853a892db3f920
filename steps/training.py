"""Train and evaluate a bundle from a converted data set."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step

from materializers.evaluation import EvaluationMaterializer
from materializers.model_bundle import ModelBundleMaterializer
from stacks.tracking import active_run
from steps.curves import pushed_curves
from steps.data import CACHE
from steps.progress import announce, progress
from steps.run_log import RunLog
from visionops.background import background_priority
from visionops.data.dataset import Split
from visionops.data.history import SplitHistory
from visionops.data.shards import StoredDataset
from visionops.evaluation.result import Evaluation
from visionops.evaluation.settings import EvaluationPlan
from visionops.inference.bundle import ModelBundle
from visionops.lineage import add_review, add_splits
from visionops.monitoring.estimation.held_out import add_held_out
from visionops.monitoring.reference import add_reference
from visionops.review.versions import ReviewVersion
from visionops.tasks.base import evaluation_folder, training_folder
from visionops.tasks.comparison import comparison_set
from visionops.tasks.converted import ConvertedDataset
from visionops.tasks.settings import TrainingPlan
from visionops.tasks.spec import task_for

__all__ = ["evaluate", "train"]


@step(cache_policy=CACHE, experiment_tracker=True, output_materializers={"bundle": ModelBundleMaterializer})
def train(
    converted: ConvertedDataset,
    splits: SplitHistory,
    plan: TrainingPlan,
    review_version: ReviewVersion | None = None,
) -> Annotated[ModelBundle, "bundle"]:
    """Train, or resume an interrupted training, and export.

    The bundle includes predictions and labels of the val split, the history of splits, and a review's data version.
    """
    epochs = plan.training.planned_epochs
    with progress("train", epochs) as report, pushed_curves(plan.name, epochs) as curves:
        log = RunLog(active_run(), report, curves)
        with background_priority():
            bundle = task_for(plan.task).train(converted, plan, training_folder(converted.dataset, plan), log)
    judged = add_reference(bundle, converted.dataset, rules=plan.records)
    return add_review(add_splits(add_held_out(judged, converted.dataset), splits), review_version)


@step(cache_policy=CACHE, experiment_tracker=True, output_materializers={"evaluation": EvaluationMaterializer})
def evaluate(
    bundle: ModelBundle, prepared: StoredDataset, scoring: EvaluationPlan
) -> Annotated[Evaluation, "evaluation"]:
    """Score the bundle on the test split with the engine that will serve it."""
    dataset = prepared.only(Split.TEST)
    folder = evaluation_folder(bundle, dataset)
    # The whole test split, except new labels with classes that a quantized champion does not have.
    known = comparison_set(dataset, [bundle.card])
    task = task_for(scoring.use_case.task)
    evaluation = task.evaluate(bundle, known.dataset_for(bundle.card), scoring, folder)
    if not known.is_whole:
        announce(f"scored {known.explain()}")
    run = active_run()
    run.metrics({f"test_{name}": value for name, value in evaluation.metrics.items()})
    run.artifacts(evaluation.folder, "evaluation")
    log_metadata(dict(evaluation.metrics))
    metric = scoring.metric
    announce(f"test {metric} {evaluation.metrics[metric]:.3f} on {evaluation.num_images} images")
    return evaluation
