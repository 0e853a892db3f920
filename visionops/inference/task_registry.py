"""Tasks by name: ours, those that installed packages bring, and those that a program registers.

A package brings a task by an entry point, which every process finds by itself, as servers and batch jobs must:

    [project.entry-points."visionops.tasks"]
    brightness = "brightness_task:SPEC"

A program of one process, as a test or a notebook, calls `register(SPEC)`. A task is imported when it is first used.
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
"""The group of entry points."""

_OURS = (
    EntryPoint("detection", "visionops.tasks.detection.spec:DETECTION", GROUP),
    EntryPoint("classification", "visionops.tasks.classification.spec:CLASSIFICATION", GROUP),
    EntryPoint("attributes", "visionops.tasks.classification.spec:ATTRIBUTES", GROUP),
)
_loaded: dict[str, ServedTask[Any]] = {}


def register(task: ServedTask[Any]) -> None:
    """Make a task known in this process.

    Raises:
        TaskError: Another task has its name.
    """
    if task.name in task_names() and _loaded.get(task.name) is not task:
        raise TaskError(f"task {task.name!r}: is registered already; give the task another name")
    _loaded[task.name] = task


def unregister(name: str) -> None:
    """Forget a task that `register` made known."""
    _loaded.pop(name, None)


def task_names() -> tuple[str, ...]:
    """Return the names of all tasks: ours first, then those of packages and of this process by name."""
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
                "package that brings it"
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
    """Return the package that brings a task, as "package==1.0"; None for ours and for one of this process alone."""
    found = [point.dist for point in _points() if point.name == name and point.dist is not None]
    return f"{found[0].name}=={found[0].version}" if found else None


def _require(name: str) -> str:
    try:
        return served_task(name).name
    except TaskError as error:
        raise ValueError(str(error)) from error


TaskName = Annotated[str, AfterValidator(_require)]
"""The name of a registered task, in a bundle or a configuration."""


@functools.cache
def _points() -> tuple[EntryPoint, ...]:
    """Ours come first: no package replaces them."""
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
        raise TaskError(f"task {point.name!r}: {point.value} is no task of that name; repair or remove its package")
    return found
