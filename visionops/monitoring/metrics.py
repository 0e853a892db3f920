"""Push metrics of pipelines to a Pushgateway for Prometheus, because no pipeline runs long enough to be scraped.

The gateway keeps the last values, and Prometheus reads them there. Each use case has a group of monitoring metrics,
which the next run of monitoring replaces completely, and one group for each pipeline, in which a run replaces only the
metrics that it has: a failed training keeps the metrics of the last successful one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from visionops.monitoring.curves import CURVES
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, DriftReport, Verdict
from visionops.monitoring.gateway import Pushgateway
from visionops.monitoring.policy import Action, Decision, Observation, is_conclusive
from visionops.monitoring.settings import PerformanceLevels, RetrainPolicy

__all__ = ["METRICS", "TrainingFigures", "push_monitoring", "push_pipeline"]

METRICS: Mapping[str, str] = {
    "visionops_traffic_images": "Predictions that monitoring compared.",
    "visionops_drift_share": "Share of the compared columns that drifted.",
    "visionops_drifted_columns": "Columns that drifted, including the embedding.",
    "visionops_compared_columns": "Columns with enough values to be compared.",
    "visionops_drift_column_drifted": "Whether a column drifted.",
    "visionops_drift_column_effect_ratio": "Size of a column's change: 1 is the least that matters.",
    "visionops_drift_column_statistic": "Statistic of a column's test; its scale is the test's own.",
    "visionops_drift_column_p_value": "p-value of a column's change, after Holm's correction.",
    "visionops_embedding_drift": "Maximum mean discrepancy of the embeddings: 0 means equal.",
    "visionops_performance": "The gate's metric on labelled traffic.",
    "visionops_performance_low": "Lower end of its 95 % interval; absent where labels do not represent the traffic.",
    "visionops_performance_high": "Upper end of its 95 % interval; absent where labels do not represent the traffic.",
    "visionops_performance_images": "Labelled images on which it was measured.",
    "visionops_performance_at_test": "The gate's metric of the champion on the test split.",
    "visionops_performance_level": "Level of the gate's metric below which an alert is sent, by severity.",
    "visionops_estimated_performance": "The gate's metric, estimated without labels.",
    "visionops_estimated_performance_low": "Lower end of the estimate's 95 % interval.",
    "visionops_estimated_performance_high": "Upper end of the estimate's 95 % interval.",
    "visionops_estimated_performance_images": "Predictions on which the estimate is based.",
    "visionops_new_labels": "Images labelled since the last training.",
    "visionops_champion_info": "1 for the version that monitoring compared.",
    "visionops_champion_created_timestamp_seconds": "Time when the champion was trained.",
    "visionops_decision": "1 for the action that monitoring decided on, 0 for the others.",
    "visionops_monitoring_last_run_timestamp_seconds": "Time of the last decision of monitoring.",
    "visionops_pipeline_last_run_timestamp_seconds": "Time when a pipeline last ended.",
    "visionops_pipeline_last_success_timestamp_seconds": "Time when a pipeline last succeeded.",
    "visionops_pipeline_duration_seconds": "Duration of the last run.",
    "visionops_pipeline_succeeded": "Whether the last run succeeded.",
    "visionops_pipeline_steps": "Steps of the last successful run, by whether they ran or were cached.",
    "visionops_training_metric": "Metrics of the last training on its test split.",
    "visionops_training_class_metric": "Metrics of each class or attribute on the test split of the last training.",
    "visionops_training_images": "Images of each split of the last training.",
    "visionops_training_promoted": "Whether the last training made a champion.",
}
"""All pushed gauges with their descriptions."""

_MOST_CLASSES = 100
"""Maximum number of classes whose metrics are pushed, those with the most test images."""
_CURVES_STAY_S = 86_400.0
"""Seconds for which the curves of a training stay on the gateway after its last epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingFigures:
    """Results of a training."""

    metrics: Mapping[str, float]
    """Metrics on the test split."""
    images: Mapping[str, int]
    """Number of images in each split."""
    is_promoted: bool
    per_class: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    """Metrics on the test split by class or attribute; ``instances`` is a count."""


def push_monitoring(
    gateway: Pushgateway,
    use_case: str,
    report: DriftReport,
    seen: Observation,
    decision: Decision,
    champion_version: str,
    champion_created: datetime,
    finished: datetime | None = None,
    policy: RetrainPolicy | None = None,
) -> None:
    """Push the observations and the decision of a monitoring run, replacing those of the run before.

    Args:
        champion_created: Time when the champion was trained; aware.
        finished: End of the run, aware; now when None.
        policy: Policy with the levels of the metric. It decides whether a metric on labelled traffic is conclusive;
            otherwise its interval, which triggers alerts, is not pushed. The default policy when None.

    Raises:
        StackError: The gateway does not answer, or refuses the metrics.
    """
    policy = policy or RetrainPolicy()
    compared = [column for column in report.columns if column.verdict is not Verdict.TOO_FEW]
    figures: dict[str, Any] = {
        "visionops_traffic_images": report.current_images,
        "visionops_drift_share": report.share,
        "visionops_drifted_columns": len(report.drifted_columns),
        "visionops_compared_columns": len(compared),
        "visionops_drift_column_drifted": {_labels(column, report): column.drifted for column in compared},
        "visionops_drift_column_effect_ratio": {
            _labels(column, report): abs(column.effect or 0.0) / column.min_effect
            for column in compared
            if column.min_effect
        },
        "visionops_drift_column_statistic": {
            _labels(column, report): column.statistic for column in compared if column.statistic is not None
        },
        "visionops_drift_column_p_value": {
            _labels(column, report): p for column in compared if (p := _p_value(column)) is not None
        },
        "visionops_new_labels": seen.new_labels,
        "visionops_champion_info": {(("version", champion_version),): 1},
        "visionops_champion_created_timestamp_seconds": champion_created.timestamp(),
        "visionops_decision": {(("action", action.value),): action is decision.action for action in Action},
        "visionops_monitoring_last_run_timestamp_seconds": (finished or datetime.now(UTC)).timestamp(),
    }
    embeddings = [column.effect or 0.0 for column in compared if column.kind is ColumnKind.EMBEDDING]
    if embeddings:
        figures["visionops_embedding_drift"] = max(embeddings)  # of the source with the largest change
    if worth := seen.performance:
        of_metric = (("metric", worth.metric),)
        figures |= {
            "visionops_performance": {of_metric: worth.value},
            "visionops_performance_images": {of_metric: worth.images},
            "visionops_performance_at_test": {of_metric: worth.at_test},
        }
        if worth.interval is not None and is_conclusive(worth, policy):
            low, high = worth.interval
            figures |= {"visionops_performance_low": {of_metric: low}, "visionops_performance_high": {of_metric: high}}
        figures["visionops_performance_level"] = {
            (*of_metric, ("severity", severity)): level
            for severity, level in policy.levels.get(worth.metric, PerformanceLevels())
            if level is not None
        }
    if guess := seen.estimate:
        of_metric = (("metric", guess.metric),)
        figures |= {
            "visionops_estimated_performance": {of_metric: guess.value},
            "visionops_estimated_performance_low": {of_metric: guess.interval[0]},
            "visionops_estimated_performance_high": {of_metric: guess.interval[1]},
            "visionops_estimated_performance_images": {of_metric: guess.images},
        }
    gateway.push({"use_case": use_case}, figures, METRICS, replace=True)


def push_pipeline(
    gateway: Pushgateway,
    pipeline: str,
    use_case: str,
    *,
    seconds: float,
    is_success: bool,
    finished: datetime,
    training: TrainingFigures | None = None,
    steps: Mapping[str, int] | None = None,
) -> None:
    """Push how a pipeline run ended, and delete the curves of trainings that ended over a day ago.

    Args:
        seconds: Duration of the run.
        finished: End of the run; aware.
        training: Results of the training, if there was one.
        steps: Number of steps under ``ran`` and ``cached``.

    Raises:
        StackError: The gateway does not answer, or refuses the metrics.
    """
    figures: dict[str, Any] = {
        "visionops_pipeline_last_run_timestamp_seconds": finished.timestamp(),
        "visionops_pipeline_duration_seconds": seconds,
        "visionops_pipeline_succeeded": is_success,
    }
    if is_success:
        figures["visionops_pipeline_last_success_timestamp_seconds"] = finished.timestamp()
    if training is not None:
        figures["visionops_training_metric"] = {(("metric", name),): v for name, v in training.metrics.items()}
        figures["visionops_training_images"] = {(("split", name),): n for name, n in training.images.items()}
        figures["visionops_training_promoted"] = training.is_promoted
        figures["visionops_training_class_metric"] = _class_figures(training.per_class)
    if steps:
        figures["visionops_pipeline_steps"] = {(("state", state),): number for state, number in steps.items()}
    gateway.push({"use_case": use_case, "pipeline": pipeline}, figures, METRICS, replace=False)
    gateway.forget(CURVES, _CURVES_STAY_S)


def _labels(column: ColumnDrift, report: DriftReport) -> tuple[tuple[str, str], ...]:
    """Return labels, with the source only where there are sources; at most `MOST_SOURCES` and one for all others."""
    by_source = (("source", column.source),) if report.sources else ()
    return ("column", column.name), ("kind", column.kind.value), *by_source


def _p_value(column: ColumnDrift) -> float | None:
    return column.p_value if column.p_adjusted is None else column.p_adjusted


def _class_figures(per_class: Mapping[str, Mapping[str, float]]) -> dict[tuple[tuple[str, str], ...], float]:
    most = sorted(per_class, key=lambda name: (-per_class[name].get("instances", 0), name))[:_MOST_CLASSES]
    return {
        (("class", name), ("metric", metric)): value
        for name in most
        for metric, value in per_class[name].items()
        if metric != "instances" and math.isfinite(value)
    }
