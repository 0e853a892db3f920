"""List the models that a stack's model deployer serves, from ZenML's records."""

from __future__ import annotations

from typing import Any, cast

from stacks.active import viewed_stack
from stacks.deployers.base import EndpointService
from visionops.errors import StackError

__all__ = ["served_models"]


def served_models(stack: str | None) -> dict[str, Any]:
    """Return the models that a stack serves; nothing is applied or locked.

    Args:
        stack: Name of the stack; None for the active one.

    Returns:
        ``stack``, whether it is the ``active`` one, and ``endpoints``, whose ``record`` is the id that
        `zenml model-deployer models` takes.

    Raises:
        StackError: The stack is unknown, or has no model deployer.
    """
    with viewed_stack(stack) as viewed:
        deployer = viewed.client.active_stack.model_deployer
        if deployer is None:
            raise StackError(f"stack {viewed.name!r}: missing model deployer; register one and add it to the stack")
        records = cast("list[EndpointService]", deployer.find_model_server())
        endpoints = [_row(record) for record in records]
    return {"stack": viewed.name, "active": viewed.is_active, "endpoints": endpoints}


def _row(record: EndpointService) -> dict[str, str]:
    state, trouble = record.check_status()
    return {
        "record": str(record.uuid),
        "name": record.config.model_name,
        "version": record.status.version,
        "alias": record.status.alias,
        "url": record.status.url,
        "state": state.value,
        "trouble": trouble,
    }
