"""Render the estimate as a page: the metric over the window, with labelled traffic in the same plot."""

from __future__ import annotations

import dataclasses
from typing import Final

from visionops.monitoring.estimation.report import PerformanceEstimate
from visionops.monitoring.policy import Performance

__all__ = ["render_estimate_html"]

_WIDTH: Final = 720
"""Width of the time axis in pixels; results without a time are drawn to its right."""
_HEIGHT: Final = 260
_LEFT: Final = 48
_TOP: Final = 12
_BESIDE: Final = 70
"""Distance between the results of the whole window and of labelled traffic."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Mark:
    """A value with its interval."""

    x: float
    y: float
    low: float
    high: float
    title: str
    is_estimate: bool = True


def render_estimate_html(report: PerformanceEstimate, labelled: Performance | None) -> str:
    """Return a page without external resources: the summary, the plot and a row for each part of the window.

    Args:
        labelled: The same metric on labelled traffic; None without labels.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.monitoring.estimation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    least = _least(report, labelled)
    ticks = [(_height(least + (1 - least) * i / 4, least), f"{least + (1 - least) * i / 4:.2f}") for i in range(5)]
    at_test = report.estimate.at_test if report.estimate else labelled.at_test if labelled else None
    return environment.get_template("estimate.html.j2").render(
        report=report,
        labelled=labelled,
        marks=_marks(report, labelled, least),
        ticks=ticks,
        at_test=None if at_test is None else _height(at_test, least),
        hours=[(_LEFT + _WIDTH * i / len(report.parts), part.begin) for i, part in enumerate(report.parts)],
        left=_LEFT,
        top=_TOP,
        bottom=_TOP + _HEIGHT,
        right=_LEFT + _WIDTH,
        width=_LEFT + _WIDTH + 2 * _BESIDE + 40,
    )


def _least(report: PerformanceEstimate, labelled: Performance | None) -> float:
    """Return the start of the axis: a tenth below all values shown."""
    shown = [part.interval[0] for part in report.parts if part.interval]
    shown += [report.estimate.interval[0]] if report.estimate else []
    shown += [labelled.interval[0] if labelled.interval else labelled.value, labelled.at_test] if labelled else []
    return max(0.0, int(10 * min([*shown, 0.9]) - 1e-9) / 10)


def _height(value: float, least: float) -> float:
    return round(_TOP + _HEIGHT * (1 - (value - least) / (1 - least)), 1)


def _marks(report: PerformanceEstimate, labelled: Performance | None, least: float) -> list[_Mark]:
    marks = []
    for number, part in enumerate(report.parts):
        if part.value is not None and part.interval is not None:
            x = _LEFT + _WIDTH * (number + 0.5) / len(report.parts)
            title = f"estimate, {part.begin:%d %b %H:%M} to {part.end:%H:%M}"
            marks.append(_mark(x, part.value, part.interval, least, title))
    if seen := report.estimate:
        marks.append(_mark(_LEFT + _WIDTH + _BESIDE, seen.value, seen.interval, least, "estimate, the whole window"))
    if labelled:
        interval = labelled.interval or (labelled.value, labelled.value)
        x = _LEFT + _WIDTH + 2 * _BESIDE
        marks.append(_mark(x, labelled.value, interval, least, "labelled traffic", is_estimate=False))
    return marks


def _mark(
    x: float, value: float, interval: tuple[float, float], least: float, title: str, *, is_estimate: bool = True
) -> _Mark:
    low, high = interval
    text = f"{title}: {value:.3f} ({low:.3f} to {high:.3f})"
    return _Mark(
        round(x, 1), _height(value, least), _height(low, least), _height(high, least), text, is_estimate=is_estimate
    )
