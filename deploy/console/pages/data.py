"""Page Data: versions of the review's labels and their changes, the newest run's data, and the source of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from nicegui import ui
from starlette.requests import Request

from deploy.console.cards import CARDS
from deploy.console.context import Console, Viewer
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.data_versions import add_table, add_versions
from deploy.console.pages.frame import add_page, in_thread, problem
from deploy.console.pages.item_dialog import show_item
from visionops.data.findings import counted
from visionops.errors import VisionOpsError
from visionops.review.errors import NotFound
from visionops.review.items import item_id

__all__ = ["register"]

_PAGE = 25
_REVIEW_CELL = """
    <q-td :props="props">
      <q-btn v-if="props.row.item" flat dense no-caps color="primary" :label="props.value"
             :aria-label="'History of ' + props.row.key" @click="$parent.$emit('history', props.row.item)" />
      <span v-else>{{ props.value }}</span>
    </q-td>
"""
"""Template of a table cell with a link to the review item; Vue escapes the values."""


def register(console: Console) -> None:
    """Add the page ``/data``."""

    async def build(viewer: Viewer, request: Request) -> None:
        known, _ = await in_thread(console.use_cases.all)
        names = [one.name for one in known]
        reviewed = [case.name for case in await in_thread(console.review.store.use_cases)]
        names = list(dict.fromkeys([*names, *reviewed]))
        if not names:
            ui.label("No use case yet: create one from a folder of images with visionops new.").classes("vo-card")
            return
        wanted = wanted_use_case(console, request, names)
        name = wanted if wanted in names else names[0]
        with ui.element("div").classes("vo-bar"):
            chosen = ui.select(names, value=name, label="Use case").props("dense outlined").style("min-width: 220px")
            chosen.on_value_change(lambda event: ui.navigate.to("/data?" + urlencode({"use_case": event.value})))
        with ui.element("section").classes("vo-card column").style("width: 100%; gap: 12px"):
            ui.html("<h2 class='vo-heading'>Data versions of the review</h2>", sanitize=False)
            await add_versions(console, viewer, name, is_reviewed=name in reviewed)
        with ui.element("section").classes("vo-card column").style("width: 100%; gap: 12px"):
            ui.html("<h2 class='vo-heading'>Data of the newest run</h2>", sanitize=False)
            place = ui.element("div").classes("column").style("width: 100%; gap: 16px")
            with place:
                ui.label("Reading what the runs keep …").classes("vo-muted").props('role="status"')
        # ZenML may take seconds; the page is shown before its answer.
        ui.timer(0.01, lambda: _training(console, viewer, name, place), once=True)

    add_page(console, "/data", "Data", build)


async def _training(console: Console, viewer: Viewer, name: str, place: ui.element) -> None:
    try:
        found = await in_thread(console.facts.get, "data", name=name)
    except VisionOpsError as error:
        place.clear()
        with place:
            problem(str(error))
        return
    place.clear()
    with place:
        if found is None:
            ui.label("No run has looked at this data yet; visionops validate or visionops train does.").classes(
                "vo-muted"
            )
            return
        _summary(found)
        _findings(found)
        _cards(name, found["cards"])
        ui.label("Where each image is from").classes("vo-heading").props('role="heading" aria-level=3')
        await _images(console, viewer, name)


def _summary(found: Mapping[str, Any]) -> None:
    ui.label(found["verdict"])
    ui.label(f"looked at {found['created'][:16].replace('T', ' ')} UTC").classes("vo-muted")
    for note in found["notes"]:
        ui.label(note)
    with ui.element("div").classes("vo-grid"):
        splits = [{"name": name, "count": count} for name, count in found["splits"].items()]
        add_table("Splits", {"name": "Split", "count": "Images"}, splits)
        classes = found["counts"].get("classes", {})
        known = list(dict.fromkeys(split for counts in classes.values() for split in counts))
        rows = [{"name": name, **{s: counts.get(s, 0) for s in known}} for name, counts in classes.items()]
        # The validation counts the source; the splits have the images that a review or a folder added, too.
        images = sum(found["splits"].values())
        added = images - found["counts"].get("usable", images)
        title = f"Classes, without {counted(added, 'added image')}" if rows and added > 0 else "Classes"
        add_table(title, {"name": "Class", **{split: split for split in known}}, rows)


def _findings(found: Mapping[str, Any]) -> None:
    ui.label("Findings").classes("vo-heading").props('role="heading" aria-level=3')
    if not found["findings"]:
        ui.label("None.").classes("vo-muted")
    for one in found["findings"]:
        with ui.expansion(f"{one['severity']}: {one['code'].replace('_', ' ')}, {one['count']}").style("width: 100%"):
            for text in one["places"]:
                ui.label(text).style("overflow-wrap: anywhere")
            if one["count"] > len(one["places"]):
                ui.label(f"and {one['count'] - len(one['places'])} more").classes("vo-muted")
    ui.label("Duplicates").classes("vo-heading").props('role="heading" aria-level=3')
    if not found["num_near_groups"]:
        ui.label("No two images look the same.").classes("vo-muted")
        return
    with ui.expansion(f"{found['num_near_groups']} groups of images that look the same").style("width: 100%"):
        for group in found["near_groups"]:
            ui.label(", ".join(group)).style("overflow-wrap: anywhere")


def _cards(name: str, cards: Sequence[str]) -> None:
    for card in cards:
        with ui.expansion(CARDS[card], icon="article").style("width: 100%") as expansion:
            holder = ui.element("div").style("width: 100%")

        def show(holder: ui.element = holder, card: str = card) -> None:
            if holder.default_slot.children:
                return
            with holder:
                frame = ui.element("iframe").classes("vo-frame").props('sandbox="" height="640" loading="lazy"')
                frame.props["title"] = CARDS[card]
                frame.props["src"] = f"/api/data/{quote(name, safe='')}/{card}"

        expansion.on_value_change(lambda event, show=show: show() if event.value else None)


async def _images(console: Console, viewer: Viewer, name: str) -> None:
    state = {"first": 0}
    with ui.element("div").classes("vo-bar"):
        wanted = ui.input("Name of a file, or SHA-256").props("dense outlined clearable").style("min-width: 280px")
        count = ui.label().classes("vo-muted").props('role="status"')
        ui.space()
        back = ui.button("Previous").props("flat no-caps")
        on = ui.button("Next").props("flat no-caps")
    place = ui.element("div").style("width: 100%")

    async def show() -> None:
        arguments = {"name": name, "wanted": (wanted.value or "").strip(), "first": state["first"], "limit": _PAGE}
        try:
            found = await in_thread(console.facts.get, "data_images", **arguments)
        except VisionOpsError as error:
            count.set_text(str(error))
            return
        images = found["images"]
        last = state["first"] + len(images)
        count.set_text(f"{state['first'] + 1 if images else 0} to {last} of {found['count']:,}")
        back.set_enabled(state["first"] > 0)
        on.set_enabled(last < found["count"])
        place.clear()
        with place:
            columns = {"key": "File", "split": "Split", "review": "In review", "sha256": "SHA-256"}
            rows = await in_thread(_with_reviews, console, name, images)
            table = add_table("Images of the data set", columns, rows)
            table.add_slot("body-cell-review", _REVIEW_CELL)
            table.on("history", lambda event: show_item(console, viewer, event.args))

    async def turn(by: int) -> None:
        state["first"] = max(0, state["first"] + by)
        await show()

    async def again() -> None:
        state["first"] = 0
        await show()

    wanted.on("keydown.enter", again)
    wanted.on("blur", again)
    back.on_click(lambda: turn(-_PAGE))
    on.on_click(lambda: turn(_PAGE))
    await show()


def _with_reviews(console: Console, use_case: str, images: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the images with the id and state of their review items."""
    found = []
    for image in images:
        try:
            item = console.review.store.item(item_id(use_case, image["sha256"]))
        except NotFound:
            found.append({**image, "review": "no", "item": None})
        else:
            found.append({**image, "review": item.status.state.value, "item": item.id})
    return found
