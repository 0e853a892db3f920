"""What a check says, and what it is given."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import TypeAdapter

from stacks.spec import ComponentSpec, ComponentType, StackSpec
from visionops.errors import VisionOpsError

__all__ = [
    "REMOTE_ORCHESTRATORS",
    "Check",
    "CheckResult",
    "Examined",
    "State",
    "broken",
    "flag",
    "of_error",
    "ok",
    "warning",
]

REMOTE_ORCHESTRATORS = ("kubernetes", "airflow")
"""Flavors whose steps run elsewhere."""


class State(enum.StrEnum):
    """Of a component."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was seen, and what mends it."""

    state: State
    saw: str
    mend: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A component, and the stack that it is in; its secrets are filled in."""

    component: ComponentSpec
    stack: StackSpec

    @property
    def is_remote(self) -> bool:
        """Whether the stack's steps run elsewhere than on this machine."""
        orchestrator = self.stack.components[ComponentType.ORCHESTRATOR]
        return orchestrator.flavor in REMOTE_ORCHESTRATORS and not flag(orchestrator.configuration.get("local"))


def flag(value: Any) -> bool:
    """A setting as ZenML reads it: "false", as a variable may have it, is False."""
    return TypeAdapter(bool).validate_python(value or False)


Check = Callable[[Examined], Iterator[CheckResult]]


def ok(saw: str) -> CheckResult:
    """It works."""
    return CheckResult(State.OK, saw)


def warning(saw: str, mend: str) -> CheckResult:
    """It works, and not for long or not for all."""
    return CheckResult(State.WARNING, saw, mend)


def broken(saw: str, mend: str) -> CheckResult:
    """It does not work."""
    return CheckResult(State.BROKEN, saw, mend)


def of_error(error: VisionOpsError) -> CheckResult:
    """Our errors end with the mend, behind a semicolon."""
    saw, _, mend = str(error).rpartition("; ")
    return broken(saw, mend) if saw else broken(mend, "")
