"""Page Overview: champion, endpoint, traffic, drift, queue and last run of each use case, and what needs a person.

Data of the database is on the page at once; data of ZenML, MLflow and the endpoints is added when it arrives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from nicegui import ui
from starlette.requests import Request

from deploy.console.attention import AttentionItem, newest_run, of_gate, of_monitoring, of_queue, of_run, waiting
from deploy.console.context import Console, Viewer
from deploy.console.endpoints import Health, check_endpoint
from deploy.console.pages.frame import add_page, in_thread
from deploy.console.pages.later import fill_later
from deploy.console.pages.parts import fact, facts, heading, section, state_label
from deploy.console.pages.words import age, ago, figure
from deploy.control.use_cases import UseCaseFile
from visionops.review.errors import NotFound
from visionops.review.ports import Stats
from visionops.runs.states import Run

__all__ = ["register"]

_T = TypeVar("_T")


class _Needs:
    """List of what needs a person, which grows as data arrives."""

    def __init__(self) -> None:
        self._needs: list[AttentionItem] = []
        with section("Needs a person"):
            self._list = ui.element("ul").classes("vm-needs").props('aria-live="polite"')
            self._draw()

    def add(self, *needs: AttentionItem | None) -> None:
        found = [need for need in needs if need is not None and need not in self._needs]
        if found and not self._list.is_deleted:
            self._needs += found
            self._draw()

    def _draw(self) -> None:
        self._list.clear()
        with self._list:
            if not self._needs:
                with ui.element("li").classes("vo-muted"):
                    ui.label("Nothing so far; a queue is named here once it is long or old.")
            for need in sorted(self._needs, key=lambda one: (not one.is_urgent, one.text)):
                with ui.element("li").classes("row no-wrap items-center"):
                    ui.icon("error" if need.is_urgent else "info", size="20px").classes(
                        "vo-bad" if need.is_urgent else "vo-warn"
                    ).props('aria-hidden="true"')
                    ui.link(need.text, need.link).classes("vm-link")


def register(console: Console) -> None:
    """Add the page ``/``."""

    async def build(_viewer: Viewer, _request: Request) -> None:
        known, problems = await in_thread(console.use_cases.all)
        for text in problems:
            ui.label(text).classes("vo-warn")
        if not known:
            ui.label("No use case yet: put a YAML file into the folder that --configs names.").classes("vo-muted")
            return
        needs = _Needs()
        remote = _Facts(console, [one.name for one in known], {one.name: str(one.path) for one in known})
        with ui.element("div").classes("vo-grid"):
            for one in known:
                stats, runs = await in_thread(functools.partial(_of_database, console, one.name))
                _card(console, remote, needs, one, stats, runs)

    add_page(console, "/", "Overview", build)


class _Facts:
    """Facts of ZenML and MLflow for all use cases: the first card sends a query, and the others share its answer."""

    def __init__(self, console: Console, names: list[str], files: dict[str, str]) -> None:
        self._facts = console.facts
        self._names, self._files = names, files

    def model(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._facts.get("models", names=self._names)[name]
        return found

    def endpoint(self, name: str) -> dict[str, str] | None:
        served = self._facts.get("endpoints")["endpoints"]
        return next((one for one in served if one["name"] == name), None)

    def traffic(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self._facts.get("traffic", files=self._files)[name]
        return found

    def verdict(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._facts.get("verdicts", names=self._names)[name]
        return found

    def run(self, name: str) -> dict[str, Any] | None:
        return next((run for run in self._facts.get("runs")["runs"] if run["use_case"] == name), None)


def _of_database(console: Console, name: str) -> tuple[Stats | None, list[Run]]:
    try:
        stats = console.review.store.stats(name)
    except NotFound:  # the use case has no review
        stats = None
    return stats, console.runs.runs(name, 1, None)


def _card(
    console: Console, remote: _Facts, needs: _Needs, one: UseCaseFile, stats: Stats | None, runs: list[Run]
) -> None:
    name, now = one.name, console.now()

    def show_first() -> None:
        card.style("order: -1")  # active use cases come first

    def champion(found: dict[str, Any]) -> None:
        _show_champion(found, one, now)
        if found["champion"]:
            show_first()
        needs.add(of_gate(name, found))

    def verdict(found: dict[str, Any] | None) -> None:
        _show_verdict(found, name, now)
        needs.add(of_monitoring(name, found))

    def last_run(found: dict[str, Any] | None) -> None:
        _show_run(runs, found, now)
        if found:
            show_first()
        needs.add(of_run(name, runs, found))

    def health(found: Health) -> None:
        _show_health(found)
        needs.add(found.need(name))

    with ui.element("section").classes("vo-card") as card:
        with ui.row().classes("items-baseline justify-between no-wrap"):
            heading(name)
            ui.label(one.path.name).classes("vo-muted")
        with facts():
            _later("Champion", functools.partial(remote.model, name), champion)
            _later("Endpoint", lambda: check_endpoint(remote.endpoint(name)), health)
            _later("Last hour", functools.partial(remote.traffic, name), _show_traffic)
            _later("Drift", functools.partial(remote.verdict, name), verdict)
            with fact("Queue"):
                _show_queue(name, stats, now)
            _later("Last run", functools.partial(remote.run, name), last_run)
    if stats or runs:
        show_first()
    needs.add(*of_queue(name, stats, now))


def _later(name: str, work: Callable[[], _T], show: Callable[[_T], None]) -> None:
    with fact(name):
        fill_later(work, show)


def _show_champion(found: dict[str, Any], one: UseCaseFile, now: datetime) -> None:
    number = found["champion"]
    version = next((row for row in found["versions"] if row["version"] == number), None)
    if version is None:
        ui.label("none" if number is None else f"version {number}").classes("vo-muted" if number is None else "")
        return
    ui.link(f"version {number}", f"/models?use_case={one.name}&version={number}").classes("vm-link")
    ui.label(f"{one.metric} {figure(version['metrics'].get(one.metric))}, {age(version['trained'], now)} old")


def _show_health(health: Health) -> None:
    if health.state == "none":
        ui.label("nothing is served").classes("vo-muted")
        return
    ui.label(health.state).classes("vo-ok" if health.state == "ready" else "vo-bad")
    ui.label(", ".join(part for part in (health.served, health.url, health.detail) if part)).classes("vo-muted vm-long")


def _show_traffic(found: dict[str, Any]) -> None:
    if found["images"] is None:
        ui.label(found["problem"] or "not known: no champion").classes("vo-muted")
        return
    ui.label(_predictions(found["images"]))


def _show_verdict(found: dict[str, Any] | None, name: str, now: datetime) -> None:
    drift = found and found["drift"]
    if not found or not drift:
        ui.label("not monitored yet").classes("vo-muted")
        return
    word = "drift" if drift["drifted"] else "no drift"
    ui.link(word, f"/monitoring?use_case={name}").classes("vm-link " + ("vo-bad" if drift["drifted"] else "vo-ok"))
    ui.label(f"in {drift['current_images']:,} images, {ago(found['at'], now)}").classes("vo-muted")


def _show_queue(name: str, stats: Stats | None, now: datetime) -> None:
    if stats is None:
        ui.label("nothing is reviewed").classes("vo-muted")
        return
    ui.link(f"{waiting(stats):,} waiting", f"/review?use_case={name}").classes("vm-link")
    if stats.oldest_pending:
        ui.label(f"the oldest for {age(stats.oldest_pending, now)}").classes("vo-muted")


def _show_run(runs: list[Run], found: dict[str, Any] | None, now: datetime) -> None:
    state, kind, link = newest_run(runs, found)
    if not state:
        ui.label("none yet").classes("vo-muted")
        return
    ui.link(kind, link).classes("vm-link")
    state_label(state)
    begun = found["started"] if found and found["pipeline"] == kind else runs[0].started or runs[0].queued
    ui.label(ago(begun, now)).classes("vo-muted")


def _predictions(count: int) -> str:
    return f"{count:,} prediction{'' if count == 1 else 's'}" if count else "no prediction"
