"""Define the inputs and results of a check."""

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
"""Orchestrator flavors whose steps run on other machines."""


class State(enum.StrEnum):
    """State of a component."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """One observation, and how to fix it."""

    state: State
    observed: str
    fix: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A component with its secrets filled in, and its stack."""

    component: ComponentSpec
    stack: StackSpec

    @property
    def is_remote(self) -> bool:
        """Whether the stack's steps run elsewhere than on this machine."""
        orchestrator = self.stack.components[ComponentType.ORCHESTRATOR]
        return orchestrator.flavor in REMOTE_ORCHESTRATORS and not flag(orchestrator.configuration.get("local"))


def flag(value: Any) -> bool:
    """Return a setting as ZenML reads it: the text "false", which a variable may hold, is False."""
    return TypeAdapter(bool).validate_python(value or False)


Check = Callable[[Examined], Iterator[CheckResult]]


def ok(observed: str) -> CheckResult:
    """Return a finding for something that works."""
    return CheckResult(State.OK, observed)


def warning(observed: str, fix: str) -> CheckResult:
    """Return a finding for something that works now, but may fail later or for some users."""
    return CheckResult(State.WARNING, observed, fix)


def broken(observed: str, fix: str) -> CheckResult:
    """Return a finding for something that does not work."""
    return CheckResult(State.BROKEN, observed, fix)


def of_error(error: VisionOpsError) -> CheckResult:
    """Return an error as a finding; our messages end with the fix, after a semicolon."""
    observed, _, fix = str(error).rpartition("; ")
    return broken(observed, fix) if observed else broken(fix, "")
