"""Show progress on the terminal: a bar if possible, or else a line every tenth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Report", "announce", "progress"]

Report = Callable[..., None]
"""``report(done, note="", total=None)``: number of finished items, a short note for the end of the line, and a new
total if it changes or the work has several parts."""


def announce(text: str) -> None:
    """Print one line about the current work or its result."""
    # Markup is off, so that [x] or :smile: in the name of a folder is printed unchanged.
    Console(stderr=True, highlight=False).print(Text.assemble(("•", "bold cyan"), f" {text}"), soft_wrap=True)


@contextmanager
def progress(label: str, total: int) -> Iterator[Report]:
    """Show ``done`` of ``total`` while the block runs."""
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with Progress(
            TextColumn(f"[bold]{label:<10}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task(label, total=total, note="")
            yield lambda done, note="", total=None: bar.update(task, completed=done, note=note, total=total)
        return
    last = (0, -1)

    def report(done: int, note: str = "", total: int = total) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if (total, tenth) != last:
            last = (total, tenth)
            sys.stderr.write(f"  {label}: {done}/{total} {note}\n")

    yield report
