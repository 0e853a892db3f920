"""What a benchmark says: rows of name, value, unit, target and verdict."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence

__all__ = ["Row", "cores", "print_rows"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the result."""

    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None
    """None: nothing is asked of this line."""


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A title and a line per row, in 80 columns."""
    print(f"\n{title}")
    print(f"  {'':44}{'':>10} {'':8}{'target':10}")
    for row in rows:
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        print(f"  {row.what:44}{_number(row.value):>10} {row.unit:8}{row.target:9}{verdict}".rstrip())
    sys.stdout.flush()


def _number(value: float) -> str:
    return f"{value:,.2f}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
