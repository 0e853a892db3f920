"""Combine our verdict and Evidently's report into one page without external resources."""

from __future__ import annotations

from evidently.core.report import Snapshot

from visionops.monitoring.drift.rendering import render_drift_section
from visionops.monitoring.drift.report import DriftReport

__all__ = ["render_both"]

_BODY = "<body>"


def render_both(report: DriftReport, snapshot: Snapshot) -> str:
    """Return Evidently's page, which includes its scripts and fonts, with our section at its top.

    Args:
        snapshot: Snapshot of the same tables.
    """
    head, body, rest = snapshot.get_html_str(as_iframe=False).partition(_BODY)
    assert body, "Evidently's page has no body"
    return f"{head}{body}{render_drift_section(report)}{rest}"
