"""How a run ended, for Prometheus."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from steps.context import active_pushgateway
from visionops.errors import StackError
from visionops.monitoring.metrics import TrainingFigures, push_pipeline

__all__ = ["told_to_prometheus"]


@contextmanager
def told_to_prometheus(pipeline: str, use_case: str) -> Iterator[dict[str, Any]]:
    """Tell the stack's Pushgateway how the run in the block ended; of one that a person interrupts, nothing.

    A gateway that does not answer is a line on the terminal, and fails no run.

    Yields:
        To be filled with the run's summary.
    """
    gateway = active_pushgateway()
    summary: dict[str, Any] = {}
    start = time.monotonic()

    def tell(*, is_success: bool) -> None:
        try:
            push_pipeline(
                gateway,
                pipeline,
                use_case,
                seconds=time.monotonic() - start,
                is_success=is_success,
                finished=datetime.now(UTC),
                training=_training_figures(summary),
            )
        except StackError as error:
            sys.stderr.write(f"warning: {error}\n")

    try:
        yield summary
    except Exception:
        tell(is_success=False)
        raise
    tell(is_success=True)


def _training_figures(summary: Mapping[str, Any]) -> TrainingFigures | None:
    if not summary.get("metrics"):
        return None
    return TrainingFigures(
        metrics={name: summary["metrics"][name] for name in summary["headline"]},
        images=summary.get("splits", {}),
        is_promoted=bool(summary.get("gate", {}).get("promote")),
    )
