"""Select the stack that this process uses."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from zenml.client import Client
from zenml.constants import ENV_ZENML_ACTIVE_STACK_ID

from stacks.changes import one_line
from stacks.first_use import opened_in_turn
from stacks.integrations import leave_out_unused_integrations
from stacks.spec import known_stacks, unknown_stack
from stacks.zenml_server import active_stack_name, require_zenml_server
from visionops.errors import StackError

__all__ = ["ViewedStack", "active_stack", "viewed_stack"]


@dataclasses.dataclass(frozen=True, slots=True)
class ViewedStack:
    """A stack to read from."""

    client: Client
    name: str
    is_active: bool
    """Whether it is also this machine's active stack."""


@contextmanager
def active_stack(client: Client, name: str, *, keep: bool) -> Iterator[None]:
    """Make a stack the active one of this process; with ``keep``, also of later processes.

    Raises:
        StackError: The stack is unknown.
    """
    try:
        found = client.get_stack(name, allow_name_prefix_match=False)
    except KeyError as error:
        if name in known_stacks():
            raise StackError(f"stack {name!r}: not in ZenML yet; run visionops stack apply {name}") from error
        raise unknown_stack(name) from error
    if keep and client.active_stack_model.id != found.id:
        client.activate_stack(found.id)  # like `zenml stack set`, so that `zenml model-deployer` sees our endpoints
    before = os.environ.get(ENV_ZENML_ACTIVE_STACK_ID)
    os.environ[ENV_ZENML_ACTIVE_STACK_ID] = str(found.id)
    try:
        yield
    finally:
        del os.environ[ENV_ZENML_ACTIVE_STACK_ID]
        if before is not None:
            os.environ[ENV_ZENML_ACTIVE_STACK_ID] = before


@contextmanager
def viewed_stack(stack: str | None) -> Iterator[ViewedStack]:
    """Make a stack the active one during a block that only reads; nothing is applied or locked, and runs may be active.

    Args:
        stack: Its name; None for the active one.

    Raises:
        StackError: It is unknown, ZenML's server does not answer, or the flavor of a component cannot be imported.
    """
    with ExitStack() as held:
        with opened_in_turn():
            require_zenml_server()
            leave_out_unused_integrations()
            client, active = Client(), active_stack_name()
            name = stack or active
            held.enter_context(active_stack(client, name, keep=False))
        try:
            yield ViewedStack(client, name, name == active)
        except ImportError as error:  # a component is loaded when it is used, and a user's own flavor may be missing
            raise StackError(f"stack {name!r}: {one_line(error)}") from error
