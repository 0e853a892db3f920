"""Registry of tasks by name: built-in ones, those of installed packages, and those that a program registers.

A package adds a task by an entry point, which every process, such as a server or a batch job, finds by itself:

    [project.entry-points."visionops.tasks"]
    brightness = "brightness_task:SPEC"

A program with one process, such as a test or a notebook, calls `register(SPEC)`. A task is imported on first use.
"""

from __future__ import annotations

import functools
import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from visionops.errors import TaskError

if TYPE_CHECKING:
    from visionops.inference.task import ServedTask

__all__ = ["GROUP", "TaskName", "all_tasks", "register", "requirement_of", "served_task", "task_names", "unregister"]

GROUP = "visionops.tasks"
"""Group of the entry points."""

_OURS = (
    EntryPoint("detection", "visionops.tasks.detection.spec:DETECTION", GROUP),
    EntryPoint("classification", "visionops.tasks.classification.spec:CLASSIFICATION", GROUP),
    EntryPoint("attributes", "visionops.tasks.classification.spec:ATTRIBUTES", GROUP),
)
_loaded: dict[str, ServedTask[Any]] = {}


def register(task: ServedTask[Any]) -> None:
    """Register a task in this process.

    Raises:
        TaskError: Another task has the same name.
    """
    if task.name in task_names() and _loaded.get(task.name) is not task:
        raise TaskError(f"task {task.name!r}: is already registered; choose another name")
    _loaded[task.name] = task


def unregister(name: str) -> None:
    """Remove a task that was added with `register`."""
    _loaded.pop(name, None)


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks: built-in ones first, then those of packages and of this process by name."""
    ours = [point.name for point in _OURS]
    others = {point.name for point in _points()} | _loaded.keys()
    return (*ours, *sorted(others.difference(ours)))


def served_task(name: str) -> ServedTask[Any]:
    """Return a task.

    Raises:
        TaskError: No task of that name is registered, or its package cannot be imported.
    """
    if name not in _loaded:
        points = [point for point in _points() if point.name == name]
        if not points:
            raise TaskError(
                f"unknown task {name!r}; registered are {', '.join(task_names())}; correct the name, or install the "
                "package that adds it"
            )
        _loaded.setdefault(name, _load(points[0]))  # another thread may have been faster
    return _loaded[name]


def all_tasks() -> tuple[ServedTask[Any], ...]:
    """Return every task, in the order of `task_names`.

    Raises:
        TaskError: The package of one cannot be imported.
    """
    return tuple(map(served_task, task_names()))


def requirement_of(name: str) -> str | None:
    """Return the package that adds a task, as "package==1.0"; None for built-in and process-local tasks."""
    found = [point.dist for point in _points() if point.name == name and point.dist is not None]
    return f"{found[0].name}=={found[0].version}" if found else None


def _require(name: str) -> str:
    try:
        return served_task(name).name
    except TaskError as error:
        raise ValueError(str(error)) from error


TaskName = Annotated[str, AfterValidator(_require)]
"""Name of a registered task, in a bundle or a configuration."""


@functools.cache
def _points() -> tuple[EntryPoint, ...]:
    """Return the entry points of all tasks, built-in ones first, so that no package replaces them."""
    return (*_OURS, *entry_points(group=GROUP))


def _load(point: EntryPoint) -> ServedTask[Any]:
    from visionops.inference.task import ServedTask

    try:
        found = getattr(importlib.import_module(point.module), point.attr)
    except (ImportError, AttributeError) as error:
        raise TaskError(
            f"task {point.name!r}: {point.value} cannot be imported ({error}); repair or remove its package"
        ) from error
    if not isinstance(found, ServedTask) or found.name != point.name:
        raise TaskError(
            f"task {point.name!r}: {point.value} is not a task with that name; repair or remove its package"
        )
    return found
