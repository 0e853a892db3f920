"""Render the drift report as a page."""

from __future__ import annotations

from typing import Any

from visionops.monitoring.drift.report import ColumnDrift, DriftReport
from visionops.monitoring.drift.wording import format_number
from visionops.monitoring.settings import DriftMethod

__all__ = ["render_drift_html", "render_drift_section"]


def render_drift_html(report: DriftReport) -> str:
    """Return a page with the summary, and for each column its values before and now, p-value and effect."""
    return _render("report.html.j2", report)


def render_drift_section(report: DriftReport) -> str:
    """Return the same as a section of a page, with styles that affect nothing else."""
    return _render("section.html.j2", report)


def _render(template: str, report: DriftReport) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.monitoring.drift", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = format_number
    ranked: Any = sorted(report.columns, key=lambda c: (not c.drifted, c.p_adjusted if c.p_adjusted is not None else 2))
    return environment.get_template(template).render(
        report=report,
        columns=ranked,
        outline=_outline,
        by_evidently=report.settings.method is DriftMethod.EVIDENTLY,
    )


def _outline(column: ColumnDrift, side: int) -> str:
    """Return points of an SVG polyline, 120 x 24: the histogram of reference (0) or current (1)."""
    top = max(max(pair) for pair in column.bins)
    step = 120 / len(column.bins)
    corners = [(i + edge, pair[side] / top) for i, pair in enumerate(column.bins) for edge in (0, 1)]
    return " ".join(f"{x * step:.1f},{24 - 23 * share:.1f}" for x, share in corners)
