"""What the facts of the console share: a stack to ask, and plain values for JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

if TYPE_CHECKING:
    from zenml.client import Client

__all__ = ["asked_stack", "plain", "stamp"]


@contextmanager
def asked_stack(stack: str | None) -> Iterator[Client]:
    """Make a stack the active one while the block looks at it; nothing is applied or locked.

    Args:
        stack: Its name; None for the active one.

    Raises:
        StackError: It is unknown, or ZenML's server does not answer.
    """
    from launch.environment import quieten_libraries

    quieten_libraries()
    from stacks.active import viewed_stack

    with viewed_stack(stack) as viewed:
        yield viewed.client


def plain(value: Any) -> Any:
    """Return a value as JSON has it; a number that is not finite becomes None."""
    return json.loads(to_json(value, inf_nan_mode="null", fallback=str))


def stamp(moment: datetime | None) -> str | None:
    """Return a time in ISO 8601, UTC; ZenML's own have no zone."""
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
