"""The part of a stack that looks for drift. Data validators implement it; the step of monitoring calls it."""

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
    """HTML; loads nothing."""
    problem: str = ""
    """Why the snapshot was not kept; "" where it was, or where none is kept."""


class DriftValidator(Protocol):
    """Compares two tables of records."""

    def look_for_drift(
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
            current: As ``reference``.
            use_case: Name below which a history is kept, where there is one.
            history: Earlier traffic, for sources that the reference does not know.

        Raises:
            StackError: It has not that method.
        """
