"""Start a drift drill, which sends changed test images to the endpoint, so that monitoring must find drift."""

from __future__ import annotations

import functools
from pathlib import Path

from nicegui import ui

from deploy.console.context import Viewer
from deploy.console.drills import DrillOrder, Drills
from deploy.console.pages.frame import attempt, in_thread
from deploy.console.pages.parts import section, state_label
from deploy.console.pages.words import clock
from visionops.monitoring.simulate import Kind
from visionops.review.users import UserRole

__all__ = ["drill_card"]

_LOOK_SECONDS = 2.0
_MOST_IMAGES = 5000


def drill_card(viewer: Viewer, drills: Drills | None, name: str, file: Path) -> None:
    """Show a form that starts a drill, and the drills that this console has started.

    Args:
        drills: Drills of this console; None if runs are Jobs of a cluster, because this machine then has no stack.
    """
    with section("Start a drill"):
        ui.label(
            "Sends changed test images to the live endpoint, so that the next monitoring must find drift. They count "
            "as normal traffic, unless monitoring.ignore_drills is true."
        ).classes("vo-muted")
        if drills is None:
            ui.label(f"Runs are Jobs of a cluster here; start a drill with visionops drill --config {file.name}.")
            return
        if viewer.role.includes(UserRole.ENGINEER):
            _form(viewer, drills, name, file)
        else:
            ui.label(f"You are {viewer.role}; starting a drill needs the role engineer.").classes("vo-muted")
        place = ui.element("div").props('aria-live="polite"').style("width: 100%")
        shown: list[object] = []

        async def look() -> None:
            found = await in_thread(drills.of, name)
            if place.is_deleted or found == shown:
                return
            shown[:] = found
            place.clear()
            with place:
                for drill in found[:5]:
                    with ui.row().classes("items-baseline"):
                        state_label(drill.state)
                        order = drill.order
                        ui.label(f"{clock(drill.started)} UTC, {order.kind.value} {order.severity:g}, by {order.by}")
                        ui.label(drill.said).classes("vo-muted vm-long")

        ui.timer(_LOOK_SECONDS, look)


def _form(viewer: Viewer, drills: Drills, name: str, file: Path) -> None:
    with ui.row().classes("items-center"):
        kind = ui.select([one.value for one in Kind], value=Kind.BRIGHTNESS.value, label="What changes")
        kind.classes("vm-select").props("outlined dense")
        severity = ui.number("Severity", value=1.0, min=-10, max=10, step=0.5).props("outlined dense")
        images = ui.number("Images", value=200, min=1, max=_MOST_IMAGES, step=50, precision=0).props("outlined dense")

        async def start() -> None:
            if severity.value is None or images.value is None:
                ui.notify("Enter a severity and a number of images.", type="warning")
                return
            order = DrillOrder(
                name,
                file,
                Kind(kind.value),
                min(10.0, max(-10.0, float(severity.value))),
                min(_MOST_IMAGES, max(1, int(images.value))),
                viewer.name,
            )

            def work() -> bool:
                drills.start(order)
                return True

            if await attempt(viewer, UserRole.ENGINEER, functools.partial(work)):
                ui.notify("The drill has started.", type="positive")

        ui.button("Send", icon="send", on_click=start).props("no-caps")
