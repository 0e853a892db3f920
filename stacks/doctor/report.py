"""Print a diagnosis as a table on a terminal, or else as one line per finding."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stacks.doctor.diagnosis import Diagnosis, Row
from stacks.doctor.findings import CheckResult, State

__all__ = ["print_diagnosis"]

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.BROKEN: "bold red"}


def print_diagnosis(diagnosis: Diagnosis, file: TextIO | None = None) -> None:
    """Print a table to a terminal, or else one line per finding, for `grep`."""
    out = file or sys.stdout
    console = Console(file=out, highlight=False)
    if console.is_terminal:
        console.print(_table(diagnosis))
    else:
        for line in _lines(diagnosis):
            print(line, file=out)
    print(_summary(diagnosis), file=out)


def _table(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("component\nflavor", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("observed\n→ fix", overflow="fold")
    for row in diagnosis.rows:
        name = Text(row.what).append(f"\n{row.flavor}" if row.flavor else "", style="dim")
        table.add_row()
        for finding in _shown(row):
            seen = Text(finding.observed).append(f"\n→ {finding.fix}" if finding.fix else "", style="bold")
            table.add_row(name, Text(finding.state.value, style=_COLOURS[finding.state]), seen)
            name = Text()
    table.add_row()
    return table


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for row in diagnosis.rows:
        for finding in _shown(row):
            name = f"{row.what} ({row.flavor})" if row.flavor else row.what
            yield f"{finding.state:8}{name}: {finding.observed}" + (f"; {finding.fix}" if finding.fix else "")


def _shown(row: Row) -> Sequence[CheckResult]:
    """Return all findings of a row that is ok, or else only those that are not ok."""
    return [finding for finding in row.findings if row.state is State.OK or finding.state is not State.OK]


def _summary(diagnosis: Diagnosis) -> str:
    said = [f"{count} {state}" for state in reversed(list(State)) if (count := diagnosis.count(state))]
    return f"stack {diagnosis.stack}: {', '.join(said)}, in {diagnosis.seconds:.1f} s"
