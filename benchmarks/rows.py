"""Print results of a benchmark as rows of name, value, unit, target and verdict."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence

__all__ = ["Row", "cores", "print_rows"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of a result."""

    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None
    """Whether the target is met; None for a line without one."""
    spread: tuple[float, float] | None = None
    """Interval of the value over rounds."""


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print a title and a line per row, in 80 columns."""
    print(f"\n{title}")
    has_spread = any(row.spread for row in rows)
    print(f"  {'':38}{'median':>8} {'95 % interval':16}{'target':9}" if has_spread else f"  {'':63}{'target':10}")
    for row in rows:
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        if has_spread:
            spread = " to ".join(map(_number, row.spread)) if row.spread else row.unit
            print(f"  {row.what:38}{_number(row.value):>8} {spread:16}{row.target:9}{verdict}".rstrip())
            continue
        print(f"  {row.what:44}{_number(row.value):>10} {row.unit:8}{row.target:9}{verdict}".rstrip())
    sys.stdout.flush()


def _number(value: float) -> str:
    return f"{value:,.2f}" if isinstance(value, float) and abs(value) < 100 else f"{value:,.0f}"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
