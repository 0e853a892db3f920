"""Progress of long work on the terminal: a bar where there is one, else a line every tenth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Report", "announce", "progress"]

Report = Callable[..., None]
"""``report(done, note="", total=None)``: so many are done; a short note stands at the end of the line. The total is
told where the work turns out to have another one, or several parts."""


def announce(text: str) -> None:
    """One line that says what happens now, or what came of it."""
    # No markup: [x] in the name of a folder is no style, and :smile: no picture.
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
