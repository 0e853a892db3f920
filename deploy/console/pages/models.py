"""Page Models: versions of a use case, comparison of two, the gate's decision, promotion and rollback."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from deploy.console.context import Console, Viewer
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.frame import add_page, in_thread
from deploy.console.pages.later import fill_later
from deploy.console.pages.models_compare import show_side_by_side
from deploy.console.pages.models_gate import show_decision
from deploy.console.pages.parts import section, select_use_case, table
from deploy.console.pages.words import clock, figure, interval

__all__ = ["register"]


def register(console: Console) -> None:
    """Add the page ``/models``."""

    async def build(viewer: Viewer, request: Request) -> None:
        known, _ = await in_thread(console.use_cases.all)
        query = request.query_params
        names = [one.name for one in known]
        name = select_use_case(names, wanted_use_case(console, request, names), "/models")
        if name is None:
            return
        metric = next(one.metric for one in known if one.name == name)

        def show(found: dict[str, Any]) -> None:
            _show(console, viewer, name, metric, found, (query.get("version"), query.get("with")))

        fill_later(functools.partial(console.facts.get, "versions", name=name), show, lines=6)

    add_page(console, "/models", "Models", build)


def _show(
    console: Console,
    viewer: Viewer,
    name: str,
    metric: str,
    found: dict[str, Any],
    wanted: tuple[str | None, str | None],
) -> None:
    versions = {row["version"]: row for row in found["versions"]}
    with section("Versions"):
        if not versions:
            ui.label("Nothing is registered yet: start a training.").classes("vo-muted")
            return
        _versions(name, metric, list(versions.values()))
    first, second = _chosen(versions, found["champion"], wanted)
    _choice(name, list(versions), first, second)
    show_decision(console, viewer, name, versions[first], found["champion"])
    if second is not None:
        show_side_by_side(console, name, metric, versions[first], versions[second])


def _versions(name: str, metric: str, rows: list[dict[str, Any]]) -> None:
    cells = [
        (
            f"version {row['version']}",
            ", ".join(row["aliases"]) or ("rolled back" if row["rolled_back"] else "-"),
            clock(row["trained"]),
            row["precision"] or "-",
            _with_interval(row, metric),
            _said(row),
        )
        for row in rows
    ]
    made = table(("Version", "Alias", "Trained (UTC)", "Precision", metric, "Decision"), cells, f"Versions of {name}")
    for cell, row in zip(made.rows, rows, strict=True):
        cell["address"] = "/models?" + urlencode({"use_case": name, "version": row["version"]})
    made.add_slot(
        "body-cell-0",
        '<q-td :props="props"><a class="vm-link" :href="props.row.address">{{ props.value }}</a></q-td>',
    )


def _with_interval(row: dict[str, Any], metric: str) -> str:
    value = figure(row["metrics"].get(metric))
    bounds = interval((row["evaluation"] or {}).get("intervals", {}).get(metric))
    return f"{value} ({bounds})" if bounds else value


def _said(row: dict[str, Any]) -> str:
    """Return the decision on a version, by the gate or a person."""
    if row["promoted_by_hand"]:
        return f"promoted by {row['promoted_by_hand']}"
    said = row["gate"].get("reason", "not judged")
    return f"{said}; release {row['release']}" if row["release"] else said


def _chosen(
    versions: dict[str, dict[str, Any]], champion: str | None, wanted: tuple[str | None, str | None]
) -> tuple[str, str | None]:
    """Return the shown version, and the one to compare with: the champion, or else the newest other version."""
    first = wanted[0] if wanted[0] in versions else next(iter(versions))
    others = [number for number in versions if number != first]
    if wanted[1] in others:
        return first, wanted[1]
    return first, champion if champion in others else next(iter(others), None)


def _choice(name: str, numbers: list[str], first: str, second: str | None) -> None:
    def go(version: str, other: str | None) -> None:
        query = {"use_case": name, "version": version} | ({"with": other} if other else {})
        ui.navigate.to("/models?" + urlencode(query))

    with ui.row().classes("items-center"):
        ui.select(numbers, value=first, label="Version", on_change=lambda e: go(e.value, second)).classes(
            "vm-select"
        ).props("outlined dense")
        if second is not None:
            others = [number for number in numbers if number != first]
            ui.select(others, value=second, label="Compared with", on_change=lambda e: go(first, e.value)).classes(
                "vm-select"
            ).props("outlined dense")
