"""Show the gate's decision on a version with its numbers, and buttons to promote it or roll it back."""

from __future__ import annotations

import functools
import uuid
from typing import Any

from nicegui import ui

from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import attempt
from deploy.console.pages.parts import ask_reason, fact, facts, section
from deploy.console.pages.words import figure
from deploy.control.work import order_run
from visionops.review.users import UserRole
from visionops.runs.states import Kind, Run, RunRequest

__all__ = ["show_decision"]


def show_decision(console: Console, viewer: Viewer, name: str, row: dict[str, Any], champion: str | None) -> None:
    """Show the gate's decision on a version with its numbers, and buttons if the viewer may act."""
    is_champion = row["version"] == champion
    with section(f"Version {row['version']}: decision of the gate"):
        gate = row["gate"]
        if not gate:
            ui.label("The gate has not judged this version.").classes("vo-muted")
        else:
            ui.label(gate.get("reason", "")).classes("vo-ok" if row["promoted_by_gate"] else "vo-bad")
            _numbers(gate)
        for text in filter(None, gate.get("warnings", "").split("; ")):
            ui.label(text).classes("vo-warn")
        if row["promoted_by_hand"]:
            ui.label(f"Promoted by hand: {row['promoted_by_hand']}")
        if row["release"]:
            ui.label(f"Release: {row['release']}")
        _actions(console, viewer, name, row, is_champion=is_champion)


def _numbers(gate: dict[str, str]) -> None:
    metric = gate.get("metric", "")
    rows = (
        (f"{metric} of this version", gate.get("challenger")),
        ("on the images compared", gate.get("compared")),
        ("figure to beat", gate.get("champion")),
        ("compared with version", gate.get("champion_version")),
        ("margin", gate.get("margin")),
        ("least figure of all", gate.get("minimum")),
    )
    with facts():
        for label, text in rows:
            if text not in {None, "None"}:
                with fact(label):
                    ui.label(text if label == "compared with version" else figure(_number(str(text))))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _actions(console: Console, viewer: Viewer, name: str, row: dict[str, Any], *, is_champion: bool) -> None:
    if not viewer.role.includes(UserRole.ENGINEER):
        ui.label(f"You are {viewer.role}; promoting and rolling back need the role engineer.").classes("vo-muted")
        return

    async def order(kind: Kind, reason: str, override: bool) -> bool:
        version = row["version"] if kind is Kind.PROMOTE else ""
        run = await attempt(
            viewer, UserRole.ENGINEER, functools.partial(_order, console, viewer, kind, name, version, reason, override)
        )
        if run is None:
            return False
        ui.navigate.to(f"/training?order={run.id}")
        return True

    number = row["version"]
    with ui.row():
        if is_champion:
            ui.button(
                "Roll back",
                icon="undo",
                on_click=lambda: ask_reason(
                    f"Take version {number} of {name} out of service?",
                    "The champion before it is served again. A version that was rolled back is never promoted again.",
                    "Roll back",
                    functools.partial(order, Kind.ROLLBACK),
                ),
            ).props("outline no-caps color=negative")
        elif row["rolled_back"]:
            ui.label("It was rolled back by hand, so it cannot be promoted.").classes("vo-muted")
        else:
            against = "" if row["promoted_by_gate"] else "Promote it against the gate"
            ui.button(
                "Promote",
                icon="upgrade",
                on_click=lambda: ask_reason(
                    f"Serve version {number} of {name} as champion?",
                    "The endpoint is switched without a failed request. Your name and reason are kept with it.",
                    "Promote",
                    functools.partial(order, Kind.PROMOTE),
                    override=against or "Promote it although the champion has changed since",
                ),
            ).props("outline no-caps")


def _order(console: Console, viewer: Viewer, kind: Kind, name: str, version: str, reason: str, override: bool) -> Run:
    run_request = RunRequest(kind, name, reason, version, override=override and kind is Kind.PROMOTE)
    return order_run(console, run_request, viewer.actor, uuid.uuid4().hex)
