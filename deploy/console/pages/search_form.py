"""Show the filter of the search page as a form that builds an address."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import date
from typing import Any

from nicegui import events, ui

from deploy.console.pages.words import VERDICTS
from visionops.errors import VisionOpsError
from visionops.review.items import Origin
from visionops.review.searching import ClassSource, SavedSearch, Search
from visionops.review.states import State

__all__ = ["Choices", "add_form"]

_SAID_BY = {ClassSource.ANY: "model or label", ClassSource.MODEL: "model", ClassSource.LABEL: "label"}
_FIELD = "dense outlined"
_TYPED_SECONDS = 0.05
"""Seconds to wait for delayed events: longer than NiceGUI's 10 ms interval after the page is connected."""


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """Options of the form's fields."""

    use_cases: tuple[str, ...]
    classes: tuple[str, ...]
    saved: tuple[SavedSearch, ...]


def add_form(search: Search, choices: Choices, on_image: Callable[[events.UploadEventArguments], Any]) -> None:
    """Add the form; it reloads the page with the filter in the address.

    Args:
        on_image: Called with an image to find similar ones.
    """
    with ui.element("form").classes("vo-form") as form:
        use_case = ui.select(
            list(choices.use_cases), value=_among(search.use_case, choices.use_cases), label="Use case"
        )
        known = list(dict.fromkeys([*choices.classes, *search.names]))
        names = ui.select(known, value=list(search.names), label="Classes and attribute answers", multiple=True)
        names.props("use-chips use-input")
        said_by = ui.select({one: _SAID_BY[one] for one in ClassSource}, value=search.said_by, label="Said by")
        with ui.element("div").classes("vo-pair"):
            low = ui.number("Confidence from", value=search.confidence_from, min=0, max=1, step=0.05).props(
                "stack-label"
            )
            high = ui.number("to", value=search.confidence_to, min=0, max=1, step=0.05).props("stack-label")
        with ui.element("div").classes("vo-pair"):
            since = ui.input("Added from", value=_day(search.added_from)).props("type=date stack-label")
            until = ui.input("until", value=_day(search.added_to)).props("type=date stack-label")
        reference = ui.input("Lot or request id", value=search.reference, placeholder="lot-7* for all that begin so")
        text = ui.input("Text in comments and file names", value=search.text)
        states = ui.select(
            {one: one.value for one in State}, value=list(search.states), label="Review state", multiple=True
        )
        verdict = ui.select({None: "any", **VERDICTS}, value=search.verdict, label="Verdict")
        origin = ui.select({None: "any", **{one: one.value for one in Origin}}, value=search.origin, label="Source")
        version = ui.input("Model version", value=search.model_version)
        like = ui.input("Like item (its id, or SHA-256)", value=search.like)
        for field in (
            *(use_case, names, said_by, low, high, since, until, reference, text, states, verdict, origin, version),
            like,
        ):
            field.props(_FIELD)
        with ui.element("div").classes("vo-bar"):
            ui.button("Search", icon="search").props("type=submit no-caps unelevated")
            ui.link("Clear", "/search").classes("vo-link")

    def read() -> Search:
        return Search(
            use_case=use_case.value,
            names=tuple(names.value or ()),
            said_by=said_by.value,
            confidence_from=low.value,
            confidence_to=high.value,
            added_from=date.fromisoformat(since.value) if since.value else None,
            added_to=date.fromisoformat(until.value) if until.value else None,
            reference=(reference.value or "").strip(),
            origin=origin.value,
            model_version=(version.value or "").strip(),
            states=tuple(states.value or ()),
            verdict=verdict.value,
            text=(text.value or "").strip(),
            like=(like.value or "").strip(),
        )

    async def submit() -> None:
        # NiceGUI delays events until the page is connected, each with its own timer, so text that was typed before a
        # quick Enter may arrive after it.
        await asyncio.sleep(_TYPED_SECONDS)
        try:
            ui.navigate.to(f"/search?{read().query()}")
        except VisionOpsError as error:
            ui.notify(str(error), type="negative")

    form.on("submit.prevent", submit)
    # Quasar's upload list has buttons without an accessible name, so it is hidden and opened by our own button.
    upload = ui.upload(auto_upload=True, on_upload=on_image).props('accept="image/*"').style("display: none")
    button = ui.button("Images like a file …", icon="image_search", on_click=lambda: upload.run_method("pickFiles"))
    button.props("outline no-caps").style("margin-top: 12px; width: 100%")


def _among(value: str | None, known: tuple[str, ...]) -> str | None:
    return value if value in known else None


def _day(value: date | None) -> str:
    return value.isoformat() if value else ""
