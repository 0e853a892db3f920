"""Estimate the gate's metric of a window of the log, as a whole and in parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from visionops.inference.bundle import ModelBundle
from visionops.monitoring.estimation.estimating import Estimator, TooFewError
from visionops.monitoring.estimation.held_out import read_held_out
from visionops.monitoring.estimation.probabilities import probabilities_of
from visionops.monitoring.estimation.report import PartEstimate, PerformanceEstimate
from visionops.monitoring.policy import Estimate
from visionops.monitoring.settings import EstimationSettings
from visionops.tasks.spec import TaskSpec

__all__ = ["PARTS", "estimate_window"]

PARTS: Final = 8
"""Number of parts of a window: one for every three hours of a day."""


def estimate_window(
    task: TaskSpec[Any],
    bundle: ModelBundle,
    traffic: pa.Table,
    span: tuple[datetime, datetime],
    metric: str,
    settings: EstimationSettings,
    at_test: float | None = None,
) -> PerformanceEstimate:
    """Estimate a model's metric on a window from its probabilities alone.

    Args:
        traffic: Records of the model in the window.
        span: Begin and end of the window; aware.
        metric: Metric of the gate.
        at_test: The model's metric on its test split.
    """
    report = PerformanceEstimate(metric=metric)
    if not settings.enabled:
        return report.model_copy(update={"problem": "monitoring.estimation.enabled is false"})
    questions = task.questions(bundle.card)
    if not questions:
        problem = f"{task.name} has no class probabilities; only classification and attributes have them"
        return report.model_copy(update={"problem": problem})
    held_out = read_held_out(bundle)
    if held_out is None:
        problem = "the champion's bundle has no labels of its val split to calibrate on; train again"
        return report.model_copy(update={"problem": problem})
    probabilities, rows = probabilities_of(traffic, questions)
    report = report.model_copy(
        update={"held_out_images": len(held_out.truth), "left_out": traffic.num_rows - len(rows)}
    )
    try:
        estimator = Estimator(questions, held_out, metric, settings)
        guess = estimator.estimate(probabilities)
    except TooFewError as error:
        return report.model_copy(update={"problem": str(error)})
    return report.model_copy(
        update={
            "estimate": Estimate(
                metric=metric,
                value=guess.value,
                interval=(guess.low, guess.high),
                at_test=at_test,
                images=len(rows),
            ),
            "parts": tuple(
                _estimate_part(estimator, begin, end, probabilities_of(part, questions)[0])
                for begin, end, part in _cut(traffic, span)
            ),
        }
    )


def _cut(traffic: pa.Table, span: tuple[datetime, datetime]) -> Iterator[tuple[datetime, datetime, pa.Table]]:
    begin, end = span
    edges = [begin + (end - begin) * number / PARTS for number in range(PARTS + 1)]
    when = traffic.schema.field("time").type
    for left, right in itertools.pairwise(edges):
        since, until = pa.scalar(left, when), pa.scalar(right, when)
        yield left, right, traffic.filter((pc.field("time") >= since) & (pc.field("time") < until))


def _estimate_part(estimator: Estimator, begin: datetime, end: datetime, probabilities: Any) -> PartEstimate:
    part = PartEstimate(begin=begin, end=end, images=len(probabilities))
    try:
        guess = estimator.estimate(probabilities)
    except TooFewError:
        return part
    return part.model_copy(update={"value": guess.value, "interval": (guess.low, guess.high)})
