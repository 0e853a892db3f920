"""Page Search: find items by class, confidence, date, lot, text and more; the address holds the filter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from nicegui import events, ui
from starlette.requests import Request

from deploy.console.components.boxes import describe_prediction
from deploy.console.context import Console, Viewer
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.frame import add_page, attempt, in_thread
from deploy.console.pages.item_dialog import show_item
from deploy.console.pages.search_form import Choices, add_form
from deploy.console.pages.words import state_in_words
from visionops.review.errors import NotFound
from visionops.review.items import ReviewItem
from visionops.review.searching import PAGE, Found, SavedSearch, Search
from visionops.review.similar import MOST_SIMILAR
from visionops.review.tracing import find_items
from visionops.review.users import UserRole

__all__ = ["register"]

_EXPORTS = {"table": "Table (CSV)", "csv": "Labels (CSV)", "coco": "COCO", "yolo": "YOLO", "fiftyone": "FiftyOne"}
_STATE_COLOURS = {"pending": "vo-warn", "claimed": "vo-warn", "decided": "vo-ok", "exported": "vo-ok"}


def register(console: Console) -> None:
    """Add the page ``/search``."""

    async def build(viewer: Viewer, request: Request) -> None:
        choices = await in_thread(_choices, console, viewer)
        if not choices.use_cases:
            with ui.element("section").classes("vo-card"):
                ui.label("No image is in review yet. Send some from Predict, or import a folder:")
                ui.label("visionops review import --config configs/steel.yaml FOLDER").classes("vo-code")
            return
        search = Search.from_query(list(request.query_params.multi_items()))
        if search.use_case is None:
            search = dataclasses.replace(search, use_case=wanted_use_case(console, request, choices.use_cases))
        choices = dataclasses.replace(choices, classes=await in_thread(_classes, console, search.use_case))
        with ui.element("div").classes("vo-search"):
            with ui.element("section").classes("vo-card").props('aria-label="Filter"'):
                add_form(search, choices, lambda event: _look_like(console, viewer, search, event, results))
                _saved(console, viewer, search, choices)
            with ui.element("section").classes("vo-results").props('aria-label="Results"') as results:
                await _results(console, viewer, search)

    add_page(console, "/search", "Search", build)


def _choices(console: Console, viewer: Viewer) -> Choices:
    names = tuple(case.name for case in console.review.store.use_cases())
    return Choices(names, (), tuple(console.review.store.searches(viewer.name)))


def _classes(console: Console, use_case: str | None) -> tuple[str, ...]:
    if use_case is None:
        return ()
    scheme = console.review.store.use_case(use_case).scheme
    known = [*scheme.class_names, *(c for q in scheme.questions if len(scheme.questions) == 1 for c in q.class_names)]
    if len(scheme.questions) > 1:
        known += [f"{q.name}={c}" for q in scheme.questions for c in q.class_names]
    return tuple(dict.fromkeys([*known, *console.review.store.classes_found(use_case)]))


def find(console: Console, search: Search) -> Found:
    """Return the items that match a filter; ``like`` is resolved first.

    Raises:
        VisionOpsError: The item of ``like`` does not exist, or a store cannot be reached.
    """
    return console.review.store.search(resolved(console, search))


def resolved(console: Console, search: Search) -> Search:
    """Return a filter with ``like`` replaced by the ids of similar items.

    Raises:
        NotFound: The item or image does not exist.
    """
    if not search.like or search.items is not None:
        return search
    review = console.review
    known = [review.store.item(one) for one in find_items(review.store, search.like)]
    item = next((one for one in known if one.use_case == search.use_case), known[0])
    data = review.images.read(item.image.sha256)
    return dataclasses.replace(search, items=similar_items(console, item.use_case, data), use_case=item.use_case)


def similar_items(console: Console, use_case: str, data: bytes) -> tuple[str, ...]:
    """Return the ids of the items most similar to an image, nearest first.

    Raises:
        ImageError: The bytes are not a usable image.
        NotFound: This review has no index of similar images.
    """
    if console.review.similar is None:
        raise NotFound("similar: this review has no index of similar images")
    found = console.review.similar.find(use_case, data, MOST_SIMILAR)
    return tuple(one.known.item for one in found if one.known.item is not None)


async def _look_like(
    console: Console, viewer: Viewer, search: Search, event: events.UploadEventArguments, results: ui.element
) -> None:
    data = await event.file.read()
    use_case = search.use_case or ""
    items = await attempt(viewer, UserRole.VIEWER, lambda: similar_items(console, use_case, data))
    if items is None:
        return
    results.clear()
    with results:
        ui.label(f"Images like {event.file.name}, the nearest first. The address does not include the upload.")
        await _results(console, viewer, dataclasses.replace(search, items=items, page=1))


async def _results(console: Console, viewer: Viewer, search: Search) -> None:
    found = await in_thread(find, console, search)
    count = f"more than {found.count:,}" if found.has_more else f"{found.count:,}"
    with ui.element("div").classes("vo-bar"):
        ui.label(f"{count} {'image' if found.count == 1 else 'images'}").classes("vo-heading").props('role="status"')
        ui.space()
        if found.count and viewer.role.includes(UserRole.ENGINEER) and search.items is None:
            with ui.button("Export", icon="download").props("outline no-caps"), ui.menu().props('role="menu"'):
                for format_, text in _EXPORTS.items():
                    address = f"/api/search/export?format={format_}&{search.query()}"
                    ui.menu_item(text, on_click=lambda address=address: ui.download(address))
    if not found.items:
        ui.label("Nothing matches. Remove a part of the filter.").classes("vo-muted")
        return
    with ui.element("ul").classes("vo-thumbs"):
        for item in found.items:
            with ui.element("li"):
                _card(console, viewer, item, found.labels.get(item.id))
    _pages(search, found)


def _card(console: Console, viewer: Viewer, item: ReviewItem, label: Mapping[str, Any] | None) -> None:
    name = item.first.name or item.first.reference or item.id[:8]
    with ui.element("button").classes("vo-thumb").props("type=button") as card:
        picture = ui.element("img").props('loading="lazy" width="320" height="240"')
        picture.props["src"] = f"/api/items/{item.id}/thumbnail"
        picture.props["alt"] = ""
        ui.label(name).classes("vo-thumb-name")
        if label is not None:
            ui.label(f"label: {describe_prediction(label)}").classes("vo-muted")
        elif item.predicted:
            ui.label(f"model: {describe_prediction(item.predicted.answer)}").classes("vo-muted")
        else:
            ui.label("no prediction").classes("vo-muted")
        ui.label(state_in_words(item.status)).classes(_STATE_COLOURS[item.status.state.value])
    card.on("click", lambda: show_item(console, viewer, item.id))


def _pages(search: Search, found: Found) -> None:
    last = max(1, -(-found.count // PAGE))
    if search.items is not None and search.like == "":
        return
    if search.page == 1 and last == 1:
        return
    with ui.element("nav").classes("vo-bar").props('aria-label="Pages of results"'):
        if search.page > 1:
            _page_link("Previous", dataclasses.replace(search, page=search.page - 1))
        ui.label(f"page {search.page:,} of {'more than ' if found.has_more else ''}{last:,}").classes("vo-muted")
        if found.has_more or search.page < last:
            _page_link("Next", dataclasses.replace(search, page=search.page + 1))


def _page_link(text: str, search: Search) -> None:
    ui.link(text, f"/search?{search.query()}").classes("vo-link")


def _saved(console: Console, viewer: Viewer, search: Search, choices: Choices) -> None:
    with ui.element("section").classes("column q-mt-md").style("gap: 8px"):
        ui.html("<h2 class='vo-heading'>Saved filters</h2>", sanitize=False)
        for saved in choices.saved:
            with ui.element("div").classes("vo-bar"):
                ui.link(saved.name, f"/search?{saved.query}").classes("vo-link")
                ui.space()
                remove = ui.button(icon="delete").props("flat round dense size=sm")
                remove.props["aria-label"] = f"Remove {saved.name}"
                remove.on_click(lambda saved=saved: _drop(console, viewer, saved, search))
        with ui.element("form").classes("vo-bar") as form:
            name = ui.input("Name of this filter").props("dense outlined maxlength=100").style("flex: 1")
            ui.button(icon="bookmark_add").props('flat round type=submit aria-label="Save this filter"')
        form.on("submit.prevent", lambda: _keep(console, viewer, name.value or "", search))


async def _keep(console: Console, viewer: Viewer, name: str, search: Search) -> None:
    def work() -> bool:
        query = dataclasses.replace(search, page=1).query()
        console.review.store.keep_search(SavedSearch(viewer.name, name, query), console.now())
        return True

    if await attempt(viewer, UserRole.VIEWER, work):
        ui.navigate.to(f"/search?{search.query()}")


async def _drop(console: Console, viewer: Viewer, saved: SavedSearch, search: Search) -> None:
    def work() -> bool:
        console.review.store.drop_search(saved.owner, saved.name)
        return True

    if await attempt(viewer, UserRole.VIEWER, work):
        ui.navigate.to(f"/search?{search.query()}")
