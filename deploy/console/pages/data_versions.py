"""Part of the page Data: versions of the review's labels, and the changes between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import in_thread, problem
from deploy.console.pages.item_dialog import show_item
from visionops.errors import VisionOpsError
from visionops.review.changes import VersionChanges, compare_versions

__all__ = ["add_table", "add_versions"]

_MOST_CHANGED = 50


async def add_versions(console: Console, viewer: Viewer, name: str, *, is_reviewed: bool) -> None:
    """Add the versions of a use case, and a comparison of two."""
    versions = await in_thread(console.review.store.versions, name) if is_reviewed else []
    if not versions:
        ui.label("None yet: an export, or a training on the review, makes a version of what is decided.").classes(
            "vo-muted"
        )
        return
    rows = [
        {"number": one.number, "at": f"{one.at:%Y-%m-%d %H:%M} UTC", "by": one.by, "images": one.num_items}
        for one in reversed(versions)
    ]
    add_table("Data versions", {"number": "Version", "at": "Made", "by": "By", "images": "New labels"}, rows)
    numbers = [one.number for one in versions]
    with ui.element("div").classes("vo-bar"):
        choices = {0: "nothing", **{number: f"version {number}" for number in numbers}}
        before = ui.select(choices, value=numbers[-1] - 1, label="Compare").props("dense outlined")
        after = ui.select(numbers, value=numbers[-1], label="with version").props("dense outlined")
        before.style("min-width: 140px")
        after.style("min-width: 140px")
    place = ui.element("div").classes("column").style("width: 100%; gap: 12px")

    async def compare() -> None:
        place.clear()
        with place:
            try:
                work = compare_versions, console.review.store, name, before.value, after.value
                _changes(console, viewer, await in_thread(*work))
            except VisionOpsError as error:
                problem(str(error))

    before.on_value_change(compare)
    after.on_value_change(compare)
    await compare()


def _changes(console: Console, viewer: Viewer, found: VersionChanges) -> None:
    ui.label(
        f"{found.images[0]:,} labelled images became {found.images[1]:,}: {len(found.added):,} new, "
        f"{len(found.changed):,} with another label."
    )
    rows = [
        {"name": name, "before": old, "after": new, "change": f"{new - old:+}"}
        for name, (old, new) in found.classes.items()
    ]
    with ui.element("div").classes("vo-grid"):
        columns = {"name": "Class", "before": "Images before", "after": "after", "change": "Change"}
        add_table("Images of each class", columns, rows)
        people = [{"name": name, "count": count} for name, count in found.reviewers.items()]
        add_table("Who decided", {"name": "Reviewer", "count": "Labels"}, people)
    shown = [*found.added, *(one.item for one in found.changed)][:_MOST_CHANGED]
    with ui.element("ul").classes("vo-thumbs"):
        for item in shown:
            with ui.element("li"), ui.element("button").classes("vo-thumb").props("type=button") as card:
                picture = ui.element("img").props('loading="lazy" width="320" height="240" alt=""')
                picture.props["src"] = f"/api/items/{item.id}/thumbnail"
                ui.label(item.first.name or item.id[:8]).classes("vo-thumb-name")
            card.on("click", lambda item=item: show_item(console, viewer, item.id))
    if more := len(found.added) + len(found.changed) - len(shown):
        ui.label(f"and {more:,} more").classes("vo-muted")


def add_table(title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> ui.table:
    """Add a table.

    Args:
        columns: Column titles by the key of a row.
    """
    named = [{"name": key, "label": text, "field": key, "align": "left"} for key, text in columns.items()]
    table = ui.table(columns=named, rows=[dict(row) for row in rows], title=title).props("flat bordered dense")
    table.classes("vo-table")
    return table
