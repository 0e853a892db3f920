"""Define the changes that `stacks.apply` makes in ZenML, each with its undo."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

__all__ = ["Action", "Change", "one_line"]


class Action(enum.StrEnum):
    """Action on an item."""

    CREATE = "create"
    UPDATE = "update"


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One difference between the file and ZenML, and the function that resolves it."""

    action: Action
    kind: str
    """`flavor`, `secret`, `connector`, `stack`, or a component type."""
    name: str
    detail: str = ""
    do: Callable[[], Callable[[], Any]] = dataclasses.field(repr=False, compare=False, default=lambda: lambda: None)
    """Function that makes the change and returns its undo."""

    def __str__(self) -> str:
        return f"{self.action} {self.kind} {self.name}" + (f" ({self.detail})" if self.detail else "")


def one_line(error: Exception) -> str:
    """Return the message of an error without its line breaks."""
    # str() of a KeyError is the repr of its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
