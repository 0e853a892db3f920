"""Show a dialog with the whole history of an image."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from nicegui import ui

from deploy.console.components.boxes import describe_prediction, draw_image
from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import attempt
from deploy.console.pages.parts import ask_reason
from deploy.console.pages.words import VERDICTS, state_in_words
from visionops.review.items import ReviewItem
from visionops.review.outcomes import ItemArrival, ItemTrace
from visionops.review.states import State
from visionops.review.users import UserRole

__all__ = ["show_item"]

_DECIDED = {State.DECIDED, State.EXPORTED}


async def show_item(console: Console, viewer: Viewer, item: str) -> None:
    """Open the dialog of an item."""

    def read() -> tuple[ItemTrace, Sequence[str]]:
        traced = console.review.store.trace(item)
        return traced, console.review.store.use_case(traced.item.use_case).scheme.class_names

    found = await attempt(viewer, UserRole.VIEWER, read)
    if found is None:
        return
    traced, class_names = found

    def ask() -> None:
        ask_reason("Reopen this decision", "The image goes back into the queue.", "Reopen", reopen)

    async def reopen(reason: str, _: bool) -> bool:
        def work() -> ReviewItem:
            return console.review.reopen(item, reason, viewer.actor, key=uuid.uuid4().hex, now=console.now())

        if await attempt(viewer, UserRole.ADMIN, work) is None:
            return False
        ui.notify("The image is back in the queue.", type="positive")
        dialog.close()
        return True

    with ui.dialog().props('full-width aria-label="Image"') as dialog, ui.card().classes("vo-card vo-item"):
        with ui.element("div").classes("vo-bar"):
            ui.label(traced.item.first.name or traced.item.id).classes("vo-heading").props(
                'role="heading" aria-level=2'
            )
            ui.space()
            if traced.item.status.state in _DECIDED and viewer.role.includes(UserRole.ADMIN):
                ui.button("Reopen", on_click=ask, color=None).props("outline no-caps")
            ui.link("Images like this", f"/search?like={traced.item.id}").classes("vo-link")
            ui.button(icon="close", on_click=dialog.close).props('flat round aria-label="Close"')
        with ui.element("div").classes("vo-item-parts"):
            _pictures(traced, class_names)
            with ui.element("div").classes("column").style("gap: 12px; min-width: 0"):
                _facts(traced)
                _history(traced)
    dialog.on("hide", dialog.delete)
    dialog.open()


def _pictures(traced: ItemTrace, class_names: Sequence[str]) -> None:
    item = traced.item
    labels = [decision for decision, _ in traced.decisions if decision.label is not None]
    with ui.element("div").classes("column").style("gap: 8px; min-width: 0"):
        if labels:
            with ui.tabs().props("dense no-caps align=left") as tabs:
                model = ui.tab("model", "Model")
                label = ui.tab("label", "Label")
            with ui.tab_panels(tabs, value=label if item.predicted is None else model).classes("vo-panels"):
                with ui.tab_panel(model):
                    answer = item.predicted.answer if item.predicted else None
                    draw_image(item.id, item.image, item.first.name, answer, class_names)
                with ui.tab_panel(label):
                    draw_image(item.id, item.image, item.first.name, labels[-1].label, class_names)
        else:
            answer = item.predicted.answer if item.predicted else None
            draw_image(item.id, item.image, item.first.name, answer, class_names)


def _facts(traced: ItemTrace) -> None:
    item = traced.item
    predicted = f"{item.predicted.model} version {item.predicted.version}: " if item.predicted else ""
    likeness = item.likeness
    like = ""
    if likeness is not None and likeness.nearest is not None and likeness.distance is not None:
        like = f"{likeness.name or likeness.nearest[:12]}, distance {likeness.distance:.3f}"
        like += f", in the {likeness.seen_in} split" if likeness.seen_in else ""
    rows = {
        "Item": item.id,
        "SHA-256": item.image.sha256,
        "Size": f"{item.image.width} x {item.image.height}, {item.image.format}, {item.image.num_bytes:,} bytes",
        "State": state_in_words(item.status),
        "Model": predicted + (describe_prediction(item.predicted.answer) if item.predicted else "no prediction"),
        "Why in the queue": "; ".join(reason.text or reason.kind for reason in item.reasons) or "no reason given",
        "Resembles": like or "nothing known",
    }
    with ui.element("dl").classes("vo-facts"):
        for name, value in rows.items():
            _term(name, value)


def _term(name: str, value: str) -> None:
    with ui.element("dt"):
        ui.label(name)
    with ui.element("dd"):
        ui.label(value)


def _history(traced: ItemTrace) -> None:
    lines = [(one.at, f"{one.by} brought it ({_arrival(one)})", one.submission.comment) for one in traced.arrivals]
    for row in traced.changes:
        if row.action not in {"add", "decide", "opinion"}:
            details = ", ".join(f"{name} {value}" for name, value in row.details.items() if value not in {None, ""})
            lines.append((row.at, f"{row.actor}: {row.action}{f' ({details})' if details else ''}", ""))
    for decision, version in traced.decisions:
        said = f": {describe_prediction(decision.label)}" if decision.label is not None else ""
        where = f"; in data version {version}" if version else ""
        lines.append(
            (
                decision.at,
                f"{decision.reviewer}: {VERDICTS[decision.verdict]}{said}{where}",
                decision.reason or decision.comment,
            )
        )
    ui.label("History").classes("vo-heading").props('role="heading" aria-level=3')
    with ui.element("ol").classes("vo-history"):
        for at, what, comment in sorted(lines, key=lambda line: line[0]):
            with ui.element("li"):
                ui.label(f"{at:%Y-%m-%d %H:%M} UTC").classes("vo-muted")
                ui.label(what)
                if comment:
                    ui.label(f"“{comment}”").classes("vo-quote")


def _arrival(one: ItemArrival) -> str:
    parts = [one.submission.origin.value, one.submission.reference]
    if one.submission.predicted:
        parts.append(
            f"version {one.submission.predicted.version}: {describe_prediction(one.submission.predicted.answer)}"
        )
    return ", ".join(part for part in parts if part)
