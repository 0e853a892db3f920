"""The table of a diagnosis; a line for each finding where nobody looks."""

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
    """To a terminal as a table, elsewhere in lines that `grep` finds."""
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
    table.add_column("what it saw\n→ what mends it", overflow="fold")
    for row in diagnosis.rows:
        name = Text(row.what).append(f"\n{row.flavor}" if row.flavor else "", style="dim")
        table.add_row()
        for finding in _shown(row):
            seen = Text(finding.saw).append(f"\n→ {finding.mend}" if finding.mend else "", style="bold")
            table.add_row(name, Text(finding.state.value, style=_COLOURS[finding.state]), seen)
            name = Text()
    table.add_row()
    return table


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for row in diagnosis.rows:
        for finding in _shown(row):
            name = f"{row.what} ({row.flavor})" if row.flavor else row.what
            yield f"{finding.state:8}{name}: {finding.saw}" + (f"; {finding.mend}" if finding.mend else "")


def _shown(row: Row) -> Sequence[CheckResult]:
    """What is well does not stand beside what is not."""
    return [finding for finding in row.findings if row.state is State.OK or finding.state is not State.OK]


def _summary(diagnosis: Diagnosis) -> str:
    said = [f"{count} {state}" for state in reversed(list(State)) if (count := diagnosis.count(state))]
    return f"stack {diagnosis.stack}: {', '.join(said)}, in {diagnosis.seconds:.1f} s"
