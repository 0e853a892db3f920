"""Compare recent predictions with the reference, score labelled traffic, decide on retraining, and notify."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from steps.context import (
    active_alerter,
    active_deployer,
    active_drift_validator,
    active_pushgateway,
    active_registry,
    champion_bundle,
)
from steps.progress import announce
from steps.review import read_decided_labels
from visionops.alerts import NotificationReport, decision_alerts
from visionops.data.additions import read_additions
from visionops.data.findings import counted
from visionops.data.settings import DataConfig, ReviewSource, ValidationPolicy
from visionops.errors import MetricError, StackError
from visionops.evaluation.settings import EvaluationPlan
from visionops.home import visionops_home
from visionops.inference.settings import ServingConfig, UseCase
from visionops.lineage import read_splits
from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.estimation.rendering import render_estimate_html
from visionops.monitoring.estimation.report import PerformanceEstimate
from visionops.monitoring.estimation.window import estimate_window
from visionops.monitoring.labelled import LabelledTraffic, measure, unseen, untrained
from visionops.monitoring.metrics import push_monitoring
from visionops.monitoring.policy import Decision, Observation, decide
from visionops.monitoring.settings import MonitoringConfig, RetrainPolicy
from visionops.monitoring.traffic import LogPlace, read_traffic
from visionops.tasks.spec import task_for

__all__ = ["compare_traffic", "decide_retraining", "estimate_performance", "notify", "score_labelled_traffic"]


# These steps are not cached, because each run may have new predictions and labels.
@step(enable_cache=False)
def compare_traffic(
    use_case: UseCase, monitoring: MonitoringConfig, serving: ServingConfig
) -> tuple[Annotated[DriftReport, "drift"], Annotated[HTMLString, "drift_report"]]:
    """Compare recent images of the champion with its validation images or with earlier traffic."""
    folder = active_deployer().prediction_log(use_case.name)
    with champion_bundle(use_case.name) as (champion, bundle):
        place = LogPlace(folder, serving.prediction_log_store, use_case.name, champion.version)
        traffic = read_traffic(bundle, place, monitoring, datetime.now(UTC))
    validator = active_drift_validator()
    report, page, problem = validator.detect_drift(
        traffic.reference, traffic.window, monitoring.drift, use_case.name, traffic.history
    )
    log_metadata(
        {
            "version": champion.version,
            "images": traffic.window.num_rows,
            "drifted": report.drifted,
            "share": report.share,
            "embedding_drifted": report.embedding_drifted,
            "snapshot": report.snapshot.id if report.snapshot else "",
        }
    )
    announce(report.explain())
    if traffic.drills:
        announce(f"{counted(traffic.drills, 'image')} of drills left out")
    if problem:
        announce(problem)
    return report, HTMLString(page)


@step(enable_cache=False)
def score_labelled_traffic(
    data: DataConfig, policy: ValidationPolicy, scoring: EvaluationPlan
) -> Annotated[LabelledTraffic, "labelled_traffic"]:
    """Count the images labelled since the last training, and score the champion on those that it has not seen.

    For a review, all labels are counted, but only images drawn at random are scored.
    """
    use_case, source = scoring.use_case, data.additions
    review = read_decided_labels(source, use_case) if isinstance(source, ReviewSource) else None
    if isinstance(source, ReviewSource):
        labelled = review.drawn if review else None
    else:
        labelled = read_additions(data, use_case.name, task_for(use_case.task).fit_dataset, visionops_home() / "data")
    if labelled is None:
        return LabelledTraffic()
    registry = active_registry()
    newest = registry.newest_trained(use_case.name)
    with champion_bundle(use_case.name) as (champion, bundle), tempfile.TemporaryDirectory() as work:
        history = read_splits(bundle)
        if history is None:
            announce(f"version {champion.version} has no list of its images, so no label counts; train again")
            return LabelledTraffic()
        new = unseen(labelled, history, policy)
        untrained_images = untrained(new, history, policy)
        since_training = new
        if not review and newest and newest.version != champion.version:
            seen = read_splits(registry.fetch_bundle(newest, Path(work) / "newest"))
            since_training = new if seen is None else unseen(new, seen, policy)
        at_test = champion.test_metric(scoring.metric)
        performance = None
        if untrained_images.num_images and at_test is not None:
            try:
                performance = measure(task_for(use_case.task), bundle, untrained_images, scoring, at_test)
            except MetricError as error:  # a few first labels of one class must not stop the run
                announce(f"new labels, but no metric yet: {error}")
    if review:
        traffic = LabelledTraffic(
            new_labels=review.unused((newest or champion).review_version(review.use_case)),
            performance=performance,
            decided=review.decided,
            drawn=review.drawn.num_images,
        )
    else:
        traffic = LabelledTraffic(new_labels=since_training.num_images, performance=performance)
    announce(traffic.explain())
    return traffic


@step(enable_cache=False)
def estimate_performance(
    labelled_traffic: LabelledTraffic, monitoring: MonitoringConfig, scoring: EvaluationPlan
) -> tuple[Annotated[PerformanceEstimate, "performance_estimate"], Annotated[HTMLString, "performance_report"]]:
    """Estimate the gate's metric of the window without labels, and report it next to the metric on labelled traffic."""
    use_case, end = scoring.use_case, datetime.now(UTC)
    begin = end - timedelta(hours=monitoring.window_hours)
    folder, store = active_deployer().prediction_log(use_case.name), scoring.serving.prediction_log_store
    with champion_bundle(use_case.name) as (champion, bundle):
        place = LogPlace(folder, store, use_case.name, champion.version)
        log = place.read(begin, end, ignore_drills=monitoring.ignore_drills)
        at_test = champion.test_metric(scoring.metric)
        task = task_for(use_case.task)
        report = estimate_window(task, bundle, log, (begin, end), scoring.metric, monitoring.estimation, at_test)
    if seen := report.estimate:
        log_metadata({"is_estimate": True, "metric": seen.metric, "value": seen.value, "interval": list(seen.interval)})
    announce(report.explain())
    return report, HTMLString(render_estimate_html(report, labelled_traffic.performance))


@step(enable_cache=False)
def decide_retraining(
    drift: DriftReport,
    labelled_traffic: LabelledTraffic,
    performance_estimate: PerformanceEstimate,
    use_case: UseCase,
    policy: RetrainPolicy,
    is_requested: bool,
) -> tuple[Annotated[Observation, "observation"], Annotated[Decision, "retraining"]]:
    """Decide whether to train again, with the reasons."""
    registry, now = active_registry(), datetime.now(UTC)
    champion, newest = registry.champion(use_case.name), registry.newest_trained(use_case.name)
    last = newest.trained if newest else champion.trained
    observation = Observation(
        images=drift.current_images,
        drift_share=drift.share,
        embedding_drifted=drift.embedding_drifted,
        drift=drift.names(),
        new_labels=labelled_traffic.new_labels,
        age_days=(now - champion.trained) / timedelta(days=1),
        hours_since_training=(now - last) / timedelta(hours=1),
        performance=labelled_traffic.performance,
        estimate=performance_estimate.estimate,
        is_requested=is_requested,
    )
    decision = decide(observation, policy)
    log_metadata({"action": decision.action.value, "sentence": decision.sentence})
    announce(decision.sentence)
    return observation, decision


@step(enable_cache=False)
def notify(
    drift: DriftReport, observation: Observation, retraining: Decision, use_case: UseCase, policy: RetrainPolicy
) -> Annotated[NotificationReport, "notification"]:
    """Send alerts and metrics; a failed notification does not stop the decided training."""
    champion = active_registry().champion(use_case.name)
    alerter, gateway = active_alerter(), active_pushgateway()
    alerts = decision_alerts(use_case.name, retraining, observation, policy)
    problems = []
    actions: tuple[Callable[[], None], ...] = (
        lambda: alerter.send(alerts) if alerter else None,
        lambda: push_monitoring(
            gateway,
            use_case.name,
            drift,
            observation,
            retraining,
            champion.version,
            champion.trained,
            policy=policy,
        ),
    )
    for act in actions:
        try:
            act()
        except StackError as error:
            problems.append(str(error))
    return NotificationReport(problems=tuple(problems))
