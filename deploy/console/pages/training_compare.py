"""Compare runs: figures, and the settings in which they differ."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from deploy.console.context import Console
from deploy.console.pages.charts import line_chart
from deploy.console.pages.later import fill_later
from deploy.console.pages.parts import section, table
from deploy.console.pages.words import clock, duration, figure, interval

__all__ = ["show_comparison"]

_LESS_TELLING = ("latency", "serving_")


def show_comparison(console: Console, names: list[str]) -> None:
    """Show runs side by side, once ZenML has returned them."""

    def work() -> list[dict[str, Any]]:
        return [console.facts.get("run", name=name) for name in names]

    fill_later(work, _show, lines=6)


def _show(runs: list[dict[str, Any]]) -> None:
    heads = [run["name"] for run in runs]
    with section("Figures"):
        rows: list[list[str]] = [
            ["state", *(run["state"] for run in runs)],
            ["begun (UTC)", *(clock(run["started"]) for run in runs)],
            ["took", *(duration(run["seconds"]) for run in runs)],
        ]
        rows += [[name, *(_cell(run, name) for run in runs)] for name in _metrics(runs)]
        table(("", *heads), rows, "Figures of the runs")
    with section("Settings that differ"):
        differing = _differing(runs)
        if differing:
            table(("Setting", *heads), differing, "Settings in which the runs differ")
        else:
            ui.label("All settings are the same.").classes("vo-muted")
    _curves(runs)


def _metrics(runs: list[dict[str, Any]]) -> list[str]:
    summaries = [run["summary"] or {} for run in runs]
    found = dict.fromkeys(name for one in summaries for name in one.get("headline", ()))
    found |= dict.fromkeys(name for one in summaries for name in one.get("metrics", {}))
    return sorted(found, key=lambda name: name.startswith(_LESS_TELLING))


def _cell(run: dict[str, Any], name: str) -> str:
    summary = run["summary"] or {}
    value = figure(summary.get("metrics", {}).get(name))
    bounds = interval(summary.get("intervals", {}).get(name))
    return f"{value} ({bounds})" if bounds else value


def _differing(runs: list[dict[str, Any]]) -> list[list[str]]:
    keys = dict.fromkeys(key for run in runs for key in run["settings"])
    rows = [[key, *(str(run["settings"].get(key, "-")) for run in runs)] for key in keys]
    return [row for row in rows if len(set(row[1:])) > 1]


def _curves(runs: list[dict[str, Any]]) -> None:
    """Draw the figures per epoch that all runs have, those of the val split first."""
    shared = [name for name in runs[0]["curves"] if all(len(run["curves"].get(name, ())) > 1 for run in runs)]
    shown = [name for name in shared if "loss" not in name and name.startswith("val_")][:4] or shared[:4]
    if not shown:
        return
    with section("Training curves"), ui.element("div").classes("vm-two"):
        for name in shown:
            with ui.element("div"):
                line_chart(name, {f"{run['name']}": run["curves"][name] for run in runs}, "epoch")
