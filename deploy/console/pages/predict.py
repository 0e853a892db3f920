"""Page Predict: send images to the endpoint of a use case, and draw its predictions over them."""

from __future__ import annotations

from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from deploy.console.components.predictor import Predictor
from deploy.console.context import Console, Viewer
from deploy.console.pages.choosing import wanted_use_case
from deploy.console.pages.frame import add_page, in_thread
from deploy.console.predictions import endpoint_of, start_command, threshold_of
from visionops.errors import VisionOpsError
from visionops.review.users import UserRole

__all__ = ["register"]


def register(console: Console) -> None:
    """Add the page ``/predict``."""

    async def build(viewer: Viewer, request: Request) -> None:
        known, problems = await in_thread(console.use_cases.all)
        for text in problems:
            ui.label(text).classes("vo-warn")
        names = [one.name for one in known]
        if not names:
            ui.label("No use case yet: create one from a folder of images with visionops new.").classes("vo-card")
            return
        wanted = wanted_use_case(console, request, names)
        name = wanted if wanted in names else names[0]
        with ui.element("div").classes("vo-bar"):
            chosen = ui.select(names, value=name, label="Use case").props("dense outlined").style("min-width: 220px")
            chosen.on_value_change(lambda event: ui.navigate.to("/predict?" + urlencode({"use_case": event.value})))
            place = ui.label("Looking for the endpoint …").classes("vo-muted").props('role="status"')
        body = ui.element("div").style("width: 100%")
        # ZenML may take seconds to return the endpoint's address; the page is shown before.
        ui.timer(0.01, lambda: _fill(console, viewer, name, place, body), once=True)

    add_page(console, "/predict", "Predict", build)


async def _fill(console: Console, viewer: Viewer, name: str, place: ui.label, body: ui.element) -> None:
    try:
        endpoint = await in_thread(endpoint_of, console, name, fresh=True)
        is_there = endpoint is not None and (endpoint["state"] == "active" or not endpoint["trouble"])
        threshold = await in_thread(threshold_of, endpoint) if endpoint is not None and is_there else 0
    except VisionOpsError as error:
        place.set_text(str(error))
        place.classes("vo-bad", remove="vo-muted")
        return
    if endpoint is None or not is_there:
        why = endpoint["trouble"] if endpoint else f"No endpoint of {name} runs."
        place.set_text(why)
        with body, ui.element("section").classes("vo-card column").style("gap: 8px"):
            ui.label("Start it, then open this page again:")
            ui.label(await in_thread(start_command, console, name)).classes("vo-code")
            ui.label("A use case without a trained model is trained first: visionops train").classes("vo-muted")
        return
    place.set_text(f"{endpoint['url']} serves version {endpoint['version']} ({endpoint['alias'] or 'no alias'})")
    with body:
        can_send = viewer.role.includes(UserRole.REVIEWER)
        Predictor(name, threshold, can_send=can_send, max_bytes=console.options.max_upload_bytes)
