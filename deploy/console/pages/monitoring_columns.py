"""Show the columns of a drift report in a table, and the distribution of one column."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from deploy.console.pages.charts import bar_chart
from deploy.console.pages.parts import section, table
from deploy.console.pages.words import figure

__all__ = ["show_columns"]

_LEAST_SHOWN = 0.001


def show_columns(columns: list[dict[str, Any]]) -> None:
    """Show the result of each column, drifted columns first."""
    ranked = sorted(columns, key=lambda one: (one["verdict"] != "drifted", -_ratio(one), one["label"]))
    with section("Columns"):
        rows = [
            (
                one["label"],
                one["outcome"],
                figure(one["before"]),
                figure(one["after"]),
                figure(one["effect"]),
                figure(one["min_effect"]),
                _chance(one["p_adjusted"]),
            )
            for one in ranked
        ]
        heads = ("Column", "Verdict", "Reference", "Window", "Effect", "Matters from", "p, adjusted")
        with ui.element("div").classes("vm-scroll").props('tabindex="0" role="group" aria-label="Columns"'):
            table(heads, rows, "Columns of the latest report", numbers=range(2, 7))
        with_bins = {one["label"]: one for one in ranked if one["bins"]}
        if with_bins:
            _distribution(with_bins)


def _chance(value: float | None) -> str:
    return "< 0.001" if value is not None and value < _LEAST_SHOWN else figure(value)


def _ratio(column: dict[str, Any]) -> float:
    return abs(float(column["effect"] or 0.0)) / float(column["min_effect"] or 1.0)


def _distribution(columns: dict[str, dict[str, Any]]) -> None:
    """Draw the bins of one column, which the reader chooses; bins have no limits, but are in ascending order."""
    first = next(iter(columns))

    def draw(label: str) -> None:
        place.clear()
        bins = columns[label]["bins"]
        with place:
            ui.label(columns[label]["said"]).classes("vo-muted")
            series = {"reference": [pair[0] for pair in bins], "window": [pair[1] for pair in bins]}
            bar_chart(
                f"Shares of images by {label}, from least to most", [str(at + 1) for at in range(len(bins))], series
            )

    ui.select(list(columns), value=first, label="Distribution of", on_change=lambda e: draw(e.value)).classes(
        "vm-select self-start"
    ).props("outlined dense")
    place = ui.element("div").style("width: 100%")
    draw(first)
