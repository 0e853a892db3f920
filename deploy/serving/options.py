"""List the options that a request may set: those of every registered task, and their names in a request."""

from __future__ import annotations

from visionops.inference.task_registry import all_tasks

__all__ = ["option_names", "registered_options"]

_SHORT = {"confidence": "conf"}
"""Options with a different name in a query string."""


def registered_options() -> dict[str, str]:
    """Return every option with its description. Each is a number from 0 to 1."""
    return {name: description for task in all_tasks() for name, description in task.options.items()}


def option_names() -> dict[str, str]:
    """Return the options by their name in a request."""
    return {_SHORT.get(name, name): name for name in registered_options()}
