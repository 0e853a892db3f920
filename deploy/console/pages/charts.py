"""Draw charts; each has a name, and a table of its numbers for people who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nicegui import ui

from deploy.console.pages.parts import table
from deploy.console.pages.words import figure

__all__ = ["bar_chart", "line_chart"]

_INK: Final = "#7b8794"
"""Colour of text and axes, readable in the light and the dark theme."""
_COLOURS: Final = ["#2f7fd6", "#d9822b", "#2e9e6b", "#a65fd0", "#d64545", "#17a2b8", "#8d6e63", "#b0a11c"]
_TEXT: Final = {"color": _INK}
_GRID: Final = {"color": "rgba(128, 128, 128, 0.25)"}


def line_chart(name: str, series: Mapping[str, Sequence[Sequence[Any]]], across: str, *, height: int = 260) -> None:
    """Draw lines over a common axis, with their points in a table that opens below.

    Args:
        series: Points (x, y) of each line by its name.
        across: Name of the x axis.
    """
    lines = [
        {"type": "line", "name": label, "data": [list(pair) for pair in pairs], "symbolSize": 5}
        for label, pairs in series.items()
    ]
    places = list(dict.fromkeys(pair[0] for pairs in series.values() for pair in pairs))
    is_words = any(isinstance(place, str) for place in places)
    axis = {"type": "category", "data": places} if is_words else {"type": "value", "minInterval": 1}
    _draw(name, lines, axis | {"name": across, "nameLocation": "middle", "nameGap": 28}, height)
    values = {label: {pair[0]: pair[1] for pair in pairs} for label, pairs in series.items()}
    rows = [[place, *(figure(row.get(place)) for row in values.values())] for place in places]
    _numbers(name, [across, *values], rows)


def bar_chart(name: str, labels: Sequence[str], series: Mapping[str, Sequence[Any]], *, height: int = 220) -> None:
    """Draw bars side by side, with their values in a table that opens below.

    Args:
        labels: Labels of the bars.
        series: Values of each series by its name, one value per label.
    """
    bars = [{"type": "bar", "name": label, "data": list(values)} for label, values in series.items()]
    _draw(name, bars, {"type": "category", "data": list(labels)}, height)
    rows = [[label, *(figure(values[at]) for values in series.values())] for at, label in enumerate(labels)]
    _numbers(name, ["", *series], rows)


def _draw(name: str, series: list[dict[str, Any]], axis: dict[str, Any], height: int) -> None:
    ui.label(name).classes("vm-subheading")
    chart = ui.echart(
        {
            "aria": {"enabled": False},
            "animation": False,
            "color": _COLOURS,
            "grid": {"left": 8, "right": 16, "top": 36, "bottom": 28, "containLabel": True},
            "legend": {"type": "scroll", "top": 0, "textStyle": _TEXT},
            "tooltip": {"trigger": "axis", "renderMode": "richText"},  # never HTML: names come from data
            "xAxis": {**axis, "axisLabel": _TEXT, "nameTextStyle": _TEXT, "splitLine": {"lineStyle": _GRID}},
            "yAxis": {"type": "value", "scale": True, "axisLabel": _TEXT, "splitLine": {"lineStyle": _GRID}},
            "series": series,
        }
    )
    chart.style(f"height: {height}px; width: 100%").props('role="img"').props["aria-label"] = name


def _numbers(name: str, columns: Sequence[str], rows: list[list[Any]]) -> None:
    with ui.expansion("Numbers").props("dense").classes("vo-muted"):
        table(columns, rows, name, numbers=range(1, len(columns)))
