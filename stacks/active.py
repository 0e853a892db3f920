"""The stack that this process uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from zenml.client import Client
from zenml.constants import ENV_ZENML_ACTIVE_STACK_ID

from stacks.spec import known_stacks
from visionops.errors import StackError

__all__ = ["active_stack"]


@contextmanager
def active_stack(client: Client, name: str, *, keep: bool) -> Iterator[None]:
    """Make a stack the active one of this process; with ``keep``, of those that come after it, too.

    Raises:
        StackError: It is unknown.
    """
    try:
        found = client.get_stack(name, allow_name_prefix_match=False)
    except KeyError as error:
        if name in known_stacks():
            raise StackError(f"stack {name!r}: ZenML does not have it yet; python -m stacks.apply {name}") from error
        raise StackError(f"stack {name!r}: not known; choose one of {', '.join(known_stacks())}") from error
    if keep and client.active_stack_model.id != found.id:
        client.activate_stack(found.id)  # as `zenml stack set` does, so that `zenml model-deployer` sees our endpoints
    before = os.environ.get(ENV_ZENML_ACTIVE_STACK_ID)
    os.environ[ENV_ZENML_ACTIVE_STACK_ID] = str(found.id)
    try:
        yield
    finally:
        del os.environ[ENV_ZENML_ACTIVE_STACK_ID]
        if before is not None:
            os.environ[ENV_ZENML_ACTIVE_STACK_ID] = before
