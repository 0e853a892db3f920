"""Port of the stack's data validator, which the monitoring step calls to detect drift."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import pyarrow as pa

from visionops.monitoring.drift.report import DriftReport
from visionops.monitoring.settings import DriftSettings

__all__ = ["DriftFindings", "DriftValidator"]


class DriftFindings(NamedTuple):
    """A report, and the page that shows it."""

    report: DriftReport
    page: str
    """HTML page without external resources."""
    problem: str = ""
    """Reason why the snapshot was not stored; "" where it was, or where none is stored."""


class DriftValidator(Protocol):
    """Comparison of two tables of records."""

    def detect_drift(
        self,
        reference: pa.Table,
        current: pa.Table,
        settings: DriftSettings,
        use_case: str,
        history: pa.Table | None = None,
    ) -> DriftFindings:
        """Compare a window of records with the reference, by the method of ``settings``.

        Args:
            reference: Columns of `visionops.monitoring.record`.
            current: Same columns as ``reference``.
            use_case: Name under which a history is stored, where there is one.
            history: Earlier traffic, for sources that the reference does not have.

        Raises:
            StackError: The validator does not support the method.
        """
