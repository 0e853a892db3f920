"""Show a run of the queue live: state, step, progress bar, end of the log, curves, and a button to cancel it."""

from __future__ import annotations

import functools
from datetime import datetime
from typing import Any

from nicegui import ui

from deploy.console.context import Console, Viewer
from deploy.console.pages.frame import attempt, in_thread
from deploy.console.pages.later import find
from deploy.console.pages.parts import fact, facts, heading, outside, section, state_label
from deploy.console.pages.training_run import show_curves
from deploy.console.pages.words import clock
from deploy.control.run_views import LOG_TAIL_BYTES, progress_view
from visionops.errors import VisionOpsError
from visionops.review.users import UserRole
from visionops.runs.states import ENDED, Kind, Run, RunState

__all__ = ["show_order"]

_LOOK_SECONDS = 1.0
_CURVES_SECONDS = 10.0
_NEWEST = 5
"""Number of ZenML's newest runs to search for a run that has just started."""


async def show_order(console: Console, viewer: Viewer, order: str) -> None:
    """Show a run of the queue, and update it until it ends.

    Raises:
        NotFound: No run has this id.
        Unavailable: The database cannot be reached.
    """
    run, tail = await in_thread(_look, console, order)
    live = _Live(console, viewer, run)
    live.draw(run, tail)
    if run.state not in ENDED:
        live.follow()


class _Live:
    """View of a run, with the timers that update it."""

    def __init__(self, console: Console, viewer: Viewer, run: Run) -> None:
        self._console, self._viewer, self._order = console, viewer, run.id
        with section(f"{run.request.kind.value} of {run.request.use_case}"):
            with facts():
                _show_request(run)
                with fact("State"):
                    self._state = ui.element("div").props('aria-live="polite"')
                with fact("Step"):
                    self._step = ui.label()
            self._bar = ui.linear_progress(0, show_value=False, size="10px")
            self._bar.props('aria-label="Progress of the step" rounded')
            self._cancel = ui.button("Cancel the run", icon="stop", on_click=lambda: _ask(console, viewer, run.id))
            self._cancel.props("outline no-caps color=negative").classes("self-start")
        self._ended = ui.element("div").style("width: 100%")
        self._curves = ui.element("div").style("width: 100%")
        with section("End of the log"):
            self._log = ui.label().classes("vm-log").props('tabindex="0" role="log" aria-label="End of the log"')
        self._trains = run.request.kind is Kind.RETRAIN

    def follow(self) -> None:
        """Update the view every second, and its curves every ten seconds."""
        self._looks = ui.timer(_LOOK_SECONDS, self._look_again)
        if self._trains:
            ui.timer(_CURVES_SECONDS, self._look_for_curves)

    def draw(self, run: Run, tail: str) -> None:
        """Show the progress of the run."""
        view = progress_view(tail)
        progress, is_over = view["progress"], run.state in ENDED
        self._state.clear()
        with self._state:
            state_label("stopping" if run.cancelled_at and not is_over else run.state.value)
        self._step.text = "-" if is_over else str(view["step"] or "-") + _count(progress)
        self._bar.set_visibility(bool(progress) and not is_over)
        self._bar.value = progress["done"] / max(progress["total"], 1) if progress else 0
        self._log.text = tail.strip() or "Nothing yet."
        may_stop = not is_over and run.cancelled_at is None and self._viewer.role.includes(UserRole.ENGINEER)
        self._cancel.set_visibility(may_stop)
        if is_over:
            self._ended.clear()
            with self._ended:
                _outcome(run)

    async def _look_again(self) -> None:
        try:
            run, tail = await in_thread(_look, self._console, self._order)
        except VisionOpsError as error:  # the next update tries again
            self._step.text = str(error)
            return
        if self._log.is_deleted:
            return
        self.draw(run, tail)
        if run.state in ENDED:
            self._looks.deactivate()
            self._console.facts.forget()

    async def _look_for_curves(self) -> None:
        if not self._looks.active or self._curves.is_deleted:
            return
        try:
            found = await find(functools.partial(_live, self._console, self._order))
        except VisionOpsError:  # ZenML does not answer; the log is still updated
            return
        if found and found["curves"] and not self._curves.is_deleted:
            self._curves.clear()
            with self._curves:
                show_curves(found)


def _show_request(run: Run) -> None:
    with fact("Started by"):
        ui.label(f"{run.actor}, {clock(run.queued)} UTC")
    if run.request.reason:
        with fact("Reason"):
            ui.label(run.request.reason).classes("vm-long")
    if run.request.version:
        with fact("Version"):
            ui.label(run.request.version)


def _look(console: Console, order: str) -> tuple[Run, str]:
    run = console.runs.run(order)
    is_ours = run.place == console.launcher.place
    return run, console.launcher.log_tail(run, LOG_TAIL_BYTES) if is_ours else ""


def _live(console: Console, order: str) -> dict[str, Any] | None:
    """Return ZenML's run for a run of the queue; None before it exists."""
    run = console.runs.run(order)
    if run.state is not RunState.RUNNING or run.started is None:
        return None
    for one in console.facts.get("runs", fresh=True, limit=_NEWEST)["runs"]:
        if one["use_case"] == run.request.use_case and datetime.fromisoformat(one["started"]) >= run.started:
            found: dict[str, Any] = console.facts.get("run", fresh=True, name=one["name"])
            return found
    return None


def _count(progress: dict[str, Any] | None) -> str:
    return f" {progress['done']} of {progress['total']} {progress['note']}" if progress else ""


def _outcome(run: Run) -> None:
    with section("Outcome"), facts():
        with fact("Ended"):
            ui.label(f"{clock(run.ended)} UTC")
        if run.cancelled_by:
            with fact("Cancelled by"):
                ui.label(run.cancelled_by)
        if run.message:
            with fact("Last line"):
                ui.label(run.message).classes("vm-long")
        summary = dict(run.summary or {})
        if gate := summary.get("gate"):
            with fact("Gate"):
                ui.label(gate["reason"])
        if name := summary.get("run"):
            with fact("Run"):
                ui.link(name, f"/training?run={name}").classes("vm-link")
                outside("in ZenML", summary.get("dashboard"))


def _ask(console: Console, viewer: Viewer, order: str) -> None:
    with ui.dialog(value=True) as dialog, ui.card().classes("vm-dialog"):
        heading("Cancel the run?")
        ui.label("An interrupted training can resume: starting it again continues from its last epoch.")

        async def stop() -> None:
            dialog.close()

            def work() -> Run:
                return console.runs.cancel(order, viewer.actor.name, console.now())

            await attempt(viewer, UserRole.ENGINEER, work)

        with ui.row().classes("justify-end full-width"):
            ui.button("Keep it", on_click=dialog.close).props("flat no-caps")
            ui.button("Cancel the run", on_click=stop).props("no-caps color=negative")
