"""Page Training: the queue, the runs of all pipelines, one run in detail or live, and a comparison of several."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import quote

from nicegui import ui
from starlette.requests import Request

from deploy.console.context import Console, Viewer
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.frame import add_page, in_thread
from deploy.console.pages.later import fill_later
from deploy.console.pages.parts import outside, section, table
from deploy.console.pages.training_compare import show_comparison
from deploy.console.pages.training_order import show_order
from deploy.console.pages.training_run import show_run
from deploy.console.pages.training_start import start_card
from deploy.console.pages.words import clock, duration
from visionops.runs.states import Run

__all__ = ["register"]

_LISTED = 20
_MOST_COMPARED = 4


def register(console: Console) -> None:
    """Add the page ``/training``."""

    async def build(viewer: Viewer, request: Request) -> None:
        query = request.query_params
        if "order" in query:
            _back()
            await show_order(console, viewer, query["order"][:64])
        elif "run" in query:
            _back()
            show_run(console, query["run"][:200])
        elif "compare" in query:
            _back()
            show_comparison(console, query["compare"][:1000].split(",")[:_MOST_COMPARED])
        else:
            known, _ = await in_thread(console.use_cases.all)
            await _all(console, viewer, wanted_use_case(console, request, [one.name for one in known]))

    add_page(console, "/training", "Training", build)


def _back() -> None:
    ui.link("All runs", "/training").classes("vm-link")


async def _all(console: Console, viewer: Viewer, use_case: str | None) -> None:
    await start_card(console, viewer, use_case)
    orders = await in_thread(functools.partial(console.runs.runs, None, _LISTED, None))
    with section("Queue of this console"):
        if orders:
            _queue(orders)
        else:
            ui.label("Nothing was started here yet.").classes("vo-muted")
    with section("Runs of all pipelines"):
        fill_later(lambda: console.facts.get("runs"), _runs, lines=4)


def _queue(orders: list[Run]) -> None:
    rows = [
        (
            run.id,
            run.request.kind.value,
            run.request.use_case,
            run.state.value,
            run.actor,
            clock(run.queued),
            run.message,
        )
        for run in orders
    ]
    made = table(
        ("Kind", "Use case", "State", "By", "Queued (UTC)", "Ended with"), [row[1:] for row in rows], "Queue of runs"
    )
    for cells, row in zip(made.rows, rows, strict=True):
        cells["id"] = row[0]
    _link_cells(made, "0", "/training?order=")


def _runs(found: dict[str, Any]) -> None:
    runs = found["runs"]
    if not runs:
        ui.label("No run yet.").classes("vo-muted")
        return
    rows = [
        (run["name"], run["pipeline"], run["use_case"], run["state"], clock(run["started"]), duration(run["seconds"]))
        for run in runs
    ]
    with ui.row().classes("items-center"):
        compare = ui.button("Compare", icon="compare_arrows").props("outline no-caps")
        compare.disable()
        hint = ui.label(f"Choose 2 to {_MOST_COMPARED} runs to see them side by side.").classes("vo-muted")
    made = table(("Run", "Pipeline", "Use case", "State", "Begun (UTC)", "Took"), rows, "Runs of all pipelines")
    for cells, run in zip(made.rows, runs, strict=True):
        cells["id"] = run["name"]
    _link_cells(made, "0", "/training?run=")
    made.set_selection("multiple")
    # Replaces Quasar's checkboxes, which have no accessible name.
    made.add_slot("header-selection", "<span></span>")
    made.add_slot(
        "body-selection", """<q-checkbox v-model="props.selected" dense :aria-label="'Compare ' + props.row.id" />"""
    )

    def chosen() -> None:
        count = len(made.selected)
        compare.set_enabled(2 <= count <= _MOST_COMPARED)
        hint.text = f"{count} of {_MOST_COMPARED} chosen" if count else "Choose runs to see them side by side."

    def go() -> None:
        names = ",".join(quote(row["id"]) for row in made.selected)
        ui.navigate.to(f"/training?compare={names}")

    made.on_select(chosen)
    compare.on_click(go)
    address = found["tracker"]["uri"]
    outside("Open MLflow", address)
    if address and not address.startswith("http"):
        ui.label(f"MLflow has no server here: mlflow ui --backend-store-uri {address}").classes("vo-muted vm-long")


def _link_cells(made: ui.table, column: str, path: str) -> None:
    """Show a column's cells as links with the row's id in the address; Vue escapes both."""
    made.add_slot(
        f"body-cell-{column}",
        f"""<q-td :props="props"><a class="vm-link" :href="'{path}' + encodeURIComponent(props.row.id)">
        {{{{ props.value }}}}</a></q-td>""",
    )
