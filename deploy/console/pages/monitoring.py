"""Page Monitoring: drift over time and per column, images of window and reference, decisions, alerts, and drills."""

from __future__ import annotations

import functools
from typing import Any

from nicegui import ui
from starlette.requests import Request

from deploy.console.context import Console, Viewer
from deploy.console.drills import Drills
from deploy.console.pages.charts import line_chart
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.frame import add_page, in_thread
from deploy.console.pages.later import fill_later
from deploy.console.pages.monitoring_columns import show_columns
from deploy.console.pages.monitoring_drill import drill_card
from deploy.console.pages.parts import fact, facts, heading, outside, section, select_use_case, table
from deploy.console.pages.words import ago, clock, figure
from deploy.control.work import ROOT
from visionops.home import visionops_home

__all__ = ["register"]

_MOST_LINES = 6


def register(console: Console) -> None:
    """Add the page ``/monitoring``."""
    drills = None
    if console.options.launcher == "process":
        drills = Drills(visionops_home() / "console" / "drills", ROOT, console.options.stack, console.now)

    async def build(viewer: Viewer, request: Request) -> None:
        known, _ = await in_thread(console.use_cases.all)
        names = [one.name for one in known]
        name = select_use_case(names, wanted_use_case(console, request, names), "/monitoring")
        if name is None:
            return
        file = next(one.path for one in known if one.name == name)

        def show(found: dict[str, Any]) -> None:
            _show(console, name, found)

        fill_later(functools.partial(console.facts.get, "monitoring", name=name), show, lines=6)
        with section("Images"):
            work = functools.partial(console.facts.get, "pictures", name=name, file=str(file))
            fill_later(work, _pictures, lines=3)
        drill_card(viewer, drills, name, file)

    add_page(console, "/monitoring", "Monitoring", build)


def _show(console: Console, name: str, found: dict[str, Any]) -> None:
    runs = found["runs"]
    compared = [run for run in runs if run["drift"]]
    with section("Now"):
        if not compared:
            ui.label(f"{name} was not monitored yet; run visionops monitor to compare its recent predictions.").classes(
                "vo-muted"
            )
        else:
            _now(console, compared[0])
    if compared:
        _over_time(list(reversed(compared)))
        show_columns(compared[0]["drift"]["columns"])
    _decisions(runs)
    _alerts(runs)
    _drills(found["drills"])


def _now(console: Console, latest: dict[str, Any]) -> None:
    drift, decision = latest["drift"], latest["decision"]
    ui.label(drift["explanation"]).classes("vo-bad" if drift["drifted"] else "vo-ok")
    with facts():
        with fact("Looked at"):
            ui.label(f"{ago(latest['at'], console.now())}, {drift['current_images']:,} images")
        if decision:
            with fact("Decision"):
                ui.label(decision["sentence"])
        if latest["estimate"]:
            with fact("Without labels"):
                ui.label(latest["estimate"])
        if latest["labelled"]:
            with fact("With labels"):
                ui.label(latest["labelled"])
        with fact("Run"):
            ui.link(latest["run"], f"/training?run={latest['run']}").classes("vm-link")
            outside("in ZenML", latest["dashboard"])


def _over_time(runs: list[dict[str, Any]]) -> None:
    """Draw the share of drifted columns, and the effect of the columns that moved most, over time."""
    with section("Drift over time"):
        if len(runs) == 1:
            ui.label("Only one run so far; each run of monitoring adds a point.").classes("vo-muted")
        with ui.element("div").classes("vm-two"):
            with ui.element("div"):
                shares = [[clock(run["at"]), round(run["drift"]["share"], 4)] for run in runs]
                line_chart("Share of columns that drifted", {"share of columns that drifted": shares}, "run, UTC")
            latest = {label: value for label, value in runs[-1]["drift"]["effects"].items() if value is not None}
            most = sorted(latest, key=lambda label: -latest[label])[:_MOST_LINES]
            if most:
                with ui.element("div"):
                    series = {
                        label: [[clock(run["at"]), run["drift"]["effects"].get(label)] for run in runs]
                        for label in most
                    }
                    line_chart("Effect per column, 1 is where it begins to matter", series, "run, UTC")


def _decisions(runs: list[dict[str, Any]]) -> None:
    with section("Decisions"):
        if not runs:
            ui.label("None yet.").classes("vo-muted")
            return
        rows = [
            (
                clock(run["at"]),
                run["decision"]["action"] if run["decision"] else run["state"],
                figure(run["drift"]["share"] if run["drift"] else None),
                run["decision"]["sentence"] if run["decision"] else run["problem"],
            )
            for run in runs
        ]
        table(("Time (UTC)", "Action", "Share drifted", "Why"), rows, "Decisions of monitoring", numbers=(2,))


def _alerts(runs: list[dict[str, Any]]) -> None:
    rows = [(clock(run["at"]), one["severity"], one["summary"], "sent") for run in runs for one in run["alerts"]]
    rows += [(clock(run["at"]), "-", text, "not sent") for run in runs for text in run["unsent_alerts"]]
    with section("Alerts"):
        if not rows:
            ui.label("Monitoring has sent none. With --decide-only it sends none at all.").classes("vo-muted")
            return
        rows.sort(reverse=True)
        table(("Time (UTC)", "Severity", "What", "Outcome"), rows, "Alerts of monitoring")


def _drills(drills: list[dict[str, Any]]) -> None:
    if drills:
        with section("Drills so far"):
            rows = [(clock(run["at"]), run["state"], run["drill"] or run["problem"]) for run in drills]
            table(("Time (UTC)", "State", "What was sent"), rows, "Drills so far")


def _pictures(found: dict[str, Any]) -> None:
    with ui.element("div").classes("vm-two"):
        for title, one in (("Window", found["window"]), ("Reference", found["reference"])):
            with ui.element("div"):
                heading(f"{title}: {len(one['pictures'])} of {one['images']:,} images", 3)
                if one["problem"]:
                    ui.label(one["problem"]).classes("vo-muted")
                with ui.element("div").classes("vm-thumbs"):
                    for picture in one["pictures"]:
                        image = ui.element("img").props
                        image["src"], image["alt"] = picture["data"], picture["name"]
