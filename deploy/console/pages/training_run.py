"""Show a run of ZenML: its results, steps, curves and settings."""

from __future__ import annotations

import functools
from typing import Any

from nicegui import ui

from deploy.console.context import Console
from deploy.console.pages.charts import line_chart
from deploy.console.pages.later import fill_later
from deploy.console.pages.parts import fact, facts, outside, section, state_label, table
from deploy.console.pages.words import clock, duration, figure, interval

__all__ = ["show_curves", "show_run"]

_OF_THE_TRAINING = frozenset({"learning_rate", "seconds"})
"""Values per epoch that do not show the quality of the model."""


def show_run(console: Console, name: str) -> None:
    """Show a run, once ZenML has returned it."""
    fill_later(functools.partial(console.facts.get, "run", name=name), _show, lines=6)


def _show(run: dict[str, Any]) -> None:
    with section(run["name"]):
        with facts():
            with fact("Pipeline"):
                ui.label(f"{run['pipeline']} of {run['use_case'] or '-'}, stack {run['stack']}")
            with fact("State"):
                state_label(run["state"])
            with fact("Begun"):
                ui.label(f"{clock(run['started'])} UTC, took {duration(run['seconds'])}")
        if run["summary_problem"]:
            ui.label(run["summary_problem"]).classes("vo-warn")
        with ui.row():
            outside("Open in ZenML", run["dashboard"])
            outside("Open in MLflow", run["tracked"])
    with ui.element("div").classes("vm-two"):
        _figures(run["summary"] or {})
        with section("Steps"):
            rows = [(one["name"], one["state"], duration(one["seconds"]), one["error"]) for one in run["steps"]]
            table(("Step", "State", "Took", "Error"), rows, "Steps of the run")
    show_curves(run)
    with section("Settings"):
        settings = [(key, str(value)) for key, value in run["settings"].items()]
        table(("Setting", "Value"), settings, "Settings of the run")


def _figures(summary: dict[str, Any]) -> None:
    with section("Figures"):
        if gate := summary.get("gate"):
            ui.label(gate["reason"]).classes("vo-ok" if gate["promote"] else "vo-warn")
        metrics = summary.get("metrics")
        if not metrics:
            ui.label("This run has no evaluation.").classes("vo-muted")
            return
        names = [*summary["headline"], *(name for name in metrics if name not in summary["headline"])]
        rows = [(name, figure(metrics[name]), interval(summary["intervals"].get(name))) for name in names]
        table(("On the test split", "Value", "95 % interval"), rows, "Figures on the test split", numbers=(1, 2))


def show_curves(run: dict[str, Any]) -> None:
    """Show the values per epoch of a run: losses, and other values."""
    with section("Training curves"):
        if run["curves_problem"]:
            ui.label(run["curves_problem"]).classes("vo-muted")
        if not run["curves"]:
            if not run["curves_problem"]:
                ui.label("No epoch was logged: the training was cached, or had no epochs.").classes("vo-muted")
            return
        curves = {name: pairs for name, pairs in run["curves"].items() if name not in _OF_THE_TRAINING}
        losses = {name: pairs for name, pairs in curves.items() if "loss" in name}
        others = {name: pairs for name, pairs in curves.items() if name not in losses}
        with ui.element("div").classes("vm-two"):
            for title, series in (("Figures on the val split", others), ("Losses", losses)):
                if series:
                    with ui.element("div"):
                        line_chart(title, series, "epoch")
