"""Push metrics of ended runs to Prometheus."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from launch.summary import RunSummary
from visionops.errors import StackError
from visionops.monitoring.gateway import Pushgateway
from visionops.monitoring.metrics import TrainingFigures, push_pipeline

__all__ = ["run_with_metrics"]


def run_with_metrics(gateway: Pushgateway, pipeline: str, use_case: str, run: Callable[[], RunSummary]) -> RunSummary:
    """Call ``run`` and push metrics of its end to a Pushgateway, except after an interrupt.

    If the gateway does not answer, print a line; the run does not fail.
    """
    start = time.monotonic()

    def push(summary: RunSummary | None) -> None:
        try:
            push_pipeline(
                gateway,
                pipeline,
                use_case,
                seconds=time.monotonic() - start,
                is_success=summary is not None,
                finished=datetime.now(UTC),
                training=_training_figures(summary) if summary else None,
                steps=summary.steps if summary else None,
            )
        except StackError as error:
            sys.stderr.write(f"warning: {error}\n")

    try:
        summary = run()
    except Exception:  # count any error of a step, then raise it again
        push(None)
        raise
    push(summary)
    return summary


def _training_figures(summary: RunSummary) -> TrainingFigures | None:
    evaluation = summary.evaluation
    if evaluation is None:
        return None
    return TrainingFigures(
        metrics={name: evaluation.metrics[name] for name in evaluation.headline},
        images=summary.splits or {},
        is_promoted=summary.gate is not None and summary.gate.promote,
        per_class=evaluation.per_class,
    )
