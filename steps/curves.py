"""Push the curves of a running training to the active stack's Pushgateway."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from zenml import get_step_context

from steps.context import active_pushgateway
from visionops.errors import StackError
from visionops.monitoring.curves import TrainingCurves
from visionops.monitoring.gateway import Pushgateway

__all__ = ["pushed_curves"]


@contextmanager
def pushed_curves(use_case: str, epochs: int) -> Iterator[TrainingCurves]:
    """Push the epochs reported while the block runs; errors are printed as one line at the end.

    Args:
        epochs: Configured number of epochs.
    """
    try:
        gateway = active_pushgateway()
    except StackError as error:
        sys.stderr.write(f"warning: {error}\n")
        gateway = Pushgateway()
    curves = TrainingCurves(gateway, use_case, get_step_context().pipeline.name, epochs)
    try:
        yield curves
    finally:
        if problem := curves.close():
            sys.stderr.write(f"warning: {problem}\n")
