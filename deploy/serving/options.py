"""What one request may set for itself: the options of every registered task, and how a request calls them."""

from __future__ import annotations

from visionops.inference.task_registry import all_tasks

__all__ = ["option_names", "registered_options"]

_SHORT = {"confidence": "conf"}
"""Options that have another name in an address."""


def registered_options() -> dict[str, str]:
    """Return every option with what it means. Each is a number from 0 to 1."""
    return {name: told for task in all_tasks() for name, told in task.options.items()}


def option_names() -> dict[str, str]:
    """Return the name in a request, and the option that it sets."""
    return {_SHORT.get(name, name): name for name in registered_options()}
