"""What can be learned: one module a task, behind `visionops.tasks.base.Task`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visionops.inference.settings import Task as TaskName

if TYPE_CHECKING:
    from visionops.tasks.base import Task

__all__ = ["task_for"]


def task_for(name: TaskName) -> Task:
    """The implementation of a task. Imported only when asked for: each brings its own heavy libraries."""
    match name:
        case TaskName.DETECTION:
            from visionops.tasks.detection import DetectionTask

            return DetectionTask()
        case TaskName.CLASSIFICATION | TaskName.ATTRIBUTES:
            from visionops.tasks.labels import LabelTask

            return LabelTask()
