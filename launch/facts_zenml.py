"""Open a stack for reading and convert values to JSON, for the facts of the console."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from zenml.client import Client

__all__ = ["plain", "stack_client", "stamp"]


@contextmanager
def stack_client(stack: str | None) -> Iterator[Client]:
    """Make a stack the active one during a block that only reads; nothing is applied or locked.

    Args:
        stack: Name of the stack; None for the active one.

    Raises:
        StackError: The stack is unknown, or ZenML's server does not answer.
    """
    from launch.environment import quieten_libraries

    quieten_libraries()
    from stacks.active import viewed_stack

    with viewed_stack(stack) as viewed:
        yield viewed.client


def plain(value: Any) -> Any:
    """Return a value as JSON; a number that is not finite becomes None."""
    return json.loads(to_json(value, inf_nan_mode="null", fallback=str))


def stamp(moment: datetime | None) -> str | None:
    """Return a time in ISO 8601 in UTC; ZenML's own times have no zone."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
