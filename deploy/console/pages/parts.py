"""Provide common parts of pages: headings, cards, fact lists, plain tables, and dialogs that ask for a reason."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

__all__ = ["ask_reason", "fact", "facts", "heading", "outside", "section", "select_use_case", "state_label", "table"]

_GOOD = frozenset({"completed", "succeeded", "cached", "stable"})
_BAD = frozenset({"failed", "lost", "drifted", "stopped"})
_ids = itertools.count(1)


def heading(text: str, level: int = 2) -> TextElement:
    """Show a heading; its text may come from data."""
    found = TextElement(tag=f"h{level}", text=text)
    return found.classes("vo-heading" if level == 2 else "vm-subheading")


@contextmanager
def section(title: str, *, level: int = 2) -> Iterator[ui.element]:
    """Show a card with a heading, which is also its accessible name."""
    name = f"section-{next(_ids)}"
    with ui.element("section").classes("vo-card vm-card column").props(f'aria-labelledby="{name}"') as card:
        heading(title, level).props(f'id="{name}"')
        yield card


@contextmanager
def facts() -> Iterator[None]:
    """Show a list of names and values; see `fact`."""
    with ui.element("dl").classes("vm-facts"):
        yield


@contextmanager
def fact(name: str) -> Iterator[None]:
    """Show one name; the block shows its value."""
    TextElement(tag="dt", text=name).classes("vo-muted")
    with ui.element("dd"):
        yield


def state_label(state: str) -> ui.label:
    """Show a state as text in a matching colour."""
    colour = "vo-ok" if state in _GOOD else "vo-bad" if state in _BAD else "vo-muted"
    return ui.label(state).classes(f"vm-state {colour}")


def outside(text: str, address: str | None) -> None:
    """Show a link that opens another server's page in a new tab; nothing if there is no HTTP address."""
    if address and address.startswith(("http://", "https://")):
        ui.link(text, address, new_tab=True).classes("vm-link").props('rel="noopener noreferrer"')


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], name: str, *, numbers: Sequence[int] = ()) -> ui.table:
    """Show a table of plain cells.

    Args:
        name: Accessible name of the table.
        numbers: Indexes of the columns that are aligned to the right.
    """
    heads = [
        {"name": str(at), "label": label, "field": str(at), "align": "right" if at in numbers else "left"}
        for at, label in enumerate(columns)
    ]
    cells = [{"id": number, **{str(at): cell for at, cell in enumerate(row)}} for number, row in enumerate(rows)]
    made = ui.table(columns=heads, rows=cells, row_key="id").props("flat dense hide-bottom wrap-cells")
    made.props(':rows-per-page-options="[0]" :pagination="{rowsPerPage: 0}"').props["aria-label"] = name
    return made.classes("vm-table")


def select_use_case(names: Sequence[str], wanted: str | None, path: str) -> str | None:
    """Show the use case of a page, and let the user choose another one.

    Args:
        wanted: Use case in the page's address.
        path: Path of the page.

    Returns:
        The shown use case: the wanted one, or else the first; None if there is none.
    """
    if not names:
        ui.label("No use case yet: put a YAML file into the folder that --configs names.").classes("vo-muted")
        return None
    chosen = wanted if wanted in names else names[0]
    if wanted and wanted not in names:
        ui.label(f"There is no use case {wanted}; this is {chosen}.").classes("vo-warn").props('role="alert"')
    ui.select(
        list(names), value=chosen, label="Use case", on_change=lambda e: ui.navigate.to(f"{path}?use_case={e.value}")
    ).classes("vm-select self-start").props("outlined dense")
    return chosen


def ask_reason(
    title: str, text: str, action: str, act: Callable[[str, bool], Awaitable[bool]], *, override: str = ""
) -> None:
    """Open a dialog that asks for a reason, and runs an action once it has one.

    Args:
        act: Called with the reason and whether the override is set; the dialog closes if it returns True.
        override: Text of the override's checkbox; with the override, the button must be pressed twice.
    """
    with ui.dialog(value=True) as dialog, ui.card().classes("vm-dialog").props('role="document"'):
        heading(title)
        ui.label(text)
        reason = ui.input("Reason").props("outlined autofocus maxlength=1000").classes("full-width")
        box = ui.checkbox(override) if override else None
        warning = ui.label().classes("vo-bad").props('role="alert"')
        sure = False

        async def press() -> None:
            nonlocal sure
            is_override = bool(box and box.value)
            if not reason.value.strip():
                warning.text = "Enter a reason; it is stored."
                return
            if is_override and not sure:
                sure = True
                warning.text = "This overrides the gate. Press again to continue."
                button.text = f"{action} against the gate"
                return
            button.disable()
            try:
                if await act(reason.value.strip(), is_override):
                    dialog.close()
            finally:
                if not button.is_deleted:
                    button.enable()

        def unsure() -> None:
            nonlocal sure
            sure = False
            button.text, warning.text = action, ""

        if box:
            box.on_value_change(unsure)
        with ui.row().classes("justify-end full-width"):
            ui.button("Cancel", on_click=dialog.close).props("flat")
            button = ui.button(action, on_click=press)
    dialog.on_value_change(lambda e: None if e.value else dialog.delete())
