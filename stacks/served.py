"""What the model deployer of a stack serves, as ZenML records it."""

from __future__ import annotations

from typing import Any, cast

from zenml.client import Client

from stacks.active import active_stack
from stacks.deployers.base import EndpointService
from stacks.integrations import leave_out_unused_integrations
from stacks.zenml_server import active_stack_name, require_zenml_server
from visionops.errors import StackError

__all__ = ["served_models"]


def served_models(stack: str | None) -> dict[str, Any]:
    """Return what a stack serves; nothing is applied or locked.

    Args:
        stack: Its name; None for the active one.

    Returns:
        ``stack``, whether it is the ``active`` one, and ``endpoints``, whose ``record`` is the id that
        `zenml model-deployer models` takes.

    Raises:
        StackError: The stack is unknown, or has no model deployer.
    """
    require_zenml_server()
    leave_out_unused_integrations()
    active = active_stack_name()
    name = stack or active
    with active_stack(Client(), name, keep=False):
        deployer = Client().active_stack.model_deployer
        if deployer is None:
            raise StackError(f"stack {name!r}: has no model deployer; register one and add it to the stack")
        records = cast("list[EndpointService]", deployer.find_model_server())
        endpoints = [_row(record) for record in records]
    return {"stack": name, "active": name == active, "endpoints": endpoints}


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
