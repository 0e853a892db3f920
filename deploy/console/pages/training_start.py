"""Start a training: edit the YAML of a use case in an editor that checks it while typing."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import uuid
from typing import Final

from nicegui import ui

from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import attempt, in_thread
from deploy.console.pages.parts import heading, section
from deploy.control.use_cases import UseCaseFile
from deploy.control.work import order_run
from visionops.errors import ConfigError, VisionOpsError
from visionops.review.users import UserRole
from visionops.runs.states import Kind, Run, RunRequest

__all__ = ["start_card"]

_PAUSE_SECONDS = 0.4
"""Seconds after the last key press until the text is checked."""
_MOST_TEXT = 200_000
# Without this, the editor's text has no accessible name, and its scroller cannot be reached by keyboard.
_LABEL: Final = """<script>
new MutationObserver(() => document.querySelectorAll('.cm-content:not([aria-label])').forEach((text) => {
  text.setAttribute('aria-label', 'Use case, YAML');
  text.closest('.cm-scroller').tabIndex = 0;
})).observe(document.documentElement, {childList: true, subtree: true});
</script>"""


@dataclasses.dataclass
class _Draft:
    """State of the editor."""

    file: str
    saved: str
    """Text of the saved file."""
    text: str
    changes: int = 0
    found: UseCaseFile | None = None
    """Use case that the text defines; None if it is invalid or not checked yet."""

    @property
    def is_changed(self) -> bool:
        return self.text != self.saved


async def start_card(console: Console, viewer: Viewer, wanted: str | None) -> None:
    """Show the editor of a use case; only an engineer can start a training."""
    known, problems = await in_thread(console.use_cases.all)
    for text in problems:
        ui.label(text).classes("vo-warn")
    with section("Start a training"):
        if not known:
            ui.label("No use case yet: put a YAML file into the folder that --configs names.").classes("vo-muted")
            return
        if not viewer.role.includes(UserRole.ENGINEER):
            ui.label(f"You are {viewer.role}; starting and cancelling runs need the role engineer.").classes("vo-muted")
            return
        first = next((one for one in known if one.name == wanted), known[0])
        text = await in_thread(console.use_cases.text, first.name)
        _Editor(console, viewer, known, _Draft(first.path.name, text, text, found=first))


class _Editor:
    def __init__(self, console: Console, viewer: Viewer, known: list[UseCaseFile], draft: _Draft) -> None:
        self._console, self._viewer, self._draft = console, viewer, draft
        ui.add_head_html(_LABEL)
        names = [one.name for one in known]
        with ui.row().classes("items-center"):
            chosen = draft.found.name if draft.found else names[0]
            ui.select(names, value=chosen, label="Use case", on_change=lambda e: self._load(e.value)).classes(
                "vm-select"
            ).props("outlined dense")
            ui.label("Esc, then Tab, leaves the editor.").classes("vo-muted")
        self._area = ui.codemirror(
            draft.text,
            language="YAML",
            theme="vscodeLight",
            line_wrapping=True,
            on_change=lambda e: self._changed(e.value),
        )
        self._area.classes("vm-editor")
        ui.timer(0, self._set_theme, once=True)  # after the page has loaded: only the browser knows the system's theme
        self._status = ui.label().props('role="status"').classes("vm-long")
        with ui.row().classes("items-start full-width"):
            self._reason = ui.input("Reason (optional)").props("outlined dense maxlength=1000").classes("vm-select")
            self._file = ui.input("Save as", value=draft.file).props("outlined dense maxlength=70").classes("vm-select")
            self._override = ui.checkbox("Override the cooldown since the last training")
        with ui.row():
            self._start = ui.button("Start", icon="play_arrow", on_click=self._begin).props("no-caps")
            self._save = ui.button("Save", icon="save", on_click=self._keep).props("outline no-caps")
        self._show("")

    async def _set_theme(self) -> None:
        if await ui.run_javascript("document.body.classList.contains('body--dark')", timeout=10):
            self._area.theme = "vscodeDark"

    async def _load(self, name: str) -> None:
        try:
            found = await in_thread(self._console.use_cases.find, name)
            text = await in_thread(self._console.use_cases.text, name)
        except VisionOpsError as error:
            self._show(str(error))
            return
        self._draft = _Draft(found.path.name, text, text, found=found)
        self._file.value = found.path.name
        self._area.value = text
        self._show("")

    async def _changed(self, text: str) -> None:
        draft = self._draft
        if text == draft.text:
            return
        draft.text, draft.found = text, None
        draft.changes += 1
        mine = draft.changes
        self._show("")
        await asyncio.sleep(_PAUSE_SECONDS)
        if mine != draft.changes or draft is not self._draft:
            return
        found, problem = await in_thread(self._checked, text, draft.file)
        if mine == draft.changes and not self._area.is_deleted:
            draft.found = found
            self._show(problem)

    def _checked(self, text: str, file: str) -> tuple[UseCaseFile | None, str]:
        if len(text) > _MOST_TEXT:
            return None, f"{file}: is longer than {_MOST_TEXT:,} characters"
        try:
            return self._console.use_cases.check(text, file), ""
        except ConfigError as error:
            return None, str(error)

    def _show(self, problem: str) -> None:
        draft = self._draft
        self._status.classes(remove="vo-bad vo-ok vo-muted")
        if problem:
            self._status.text = problem
            self._status.classes("vo-bad")
        elif draft.found is None:
            self._status.text = "Checking"
            self._status.classes("vo-muted")
        else:
            state = "differs from the file; save it to start it" if draft.is_changed else "same as the file"
            self._status.text = f"{draft.found.name}: valid, {state}"
            self._status.classes("vo-ok")
        self._start.set_enabled(draft.found is not None and not draft.is_changed)
        self._save.set_enabled(draft.found is not None and draft.is_changed)

    async def _begin(self) -> None:
        found = self._draft.found
        if found is None or self._draft.is_changed:
            return
        order = functools.partial(self._order, found.name, self._reason.value.strip(), self._override.value)
        run = await attempt(self._viewer, UserRole.ENGINEER, order)
        if run is not None:
            ui.navigate.to(f"/training?order={run.id}")

    def _order(self, name: str, reason: str, override: bool) -> Run:
        run_request = RunRequest(Kind.RETRAIN, name, reason, override=override)
        return order_run(self._console, run_request, self._viewer.actor, uuid.uuid4().hex)

    async def _keep(self) -> None:
        file = self._file.value.strip()
        known = (await in_thread(self._console.use_cases.all))[0]
        if any(one.path.name == file for one in known):
            self._ask_to_replace(file)
        else:
            await self._write(file, replace=False)

    def _ask_to_replace(self, file: str) -> None:
        with ui.dialog(value=True) as dialog, ui.card().classes("vm-dialog"):
            heading(f"Replace {file}?")
            ui.label("Its text is lost; running runs still use it.")

            async def replace() -> None:
                dialog.close()
                await self._write(file, replace=True)

            with ui.row().classes("justify-end full-width"):
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
                ui.button("Replace", on_click=replace).props("no-caps color=negative")

    async def _write(self, file: str, *, replace: bool) -> None:
        text = self._draft.text
        save = functools.partial(self._console.use_cases.save, text, file, replace=replace)
        found = await attempt(self._viewer, UserRole.ENGINEER, save)
        if found is not None:
            ui.notify(f"{found.path.name} is saved", type="positive")
            ui.navigate.to(f"/training?use_case={found.name}")
