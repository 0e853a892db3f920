"""What the pages of one console share."""

from __future__ import annotations

import dataclasses

from starlette.requests import HTTPConnection

from deploy.console.access import Access
from deploy.console.facts import Facts
from deploy.console.metrics import ConsoleMetrics
from deploy.console.options import ConsoleOptions
from deploy.console.viewer import Viewer
from deploy.control.work import Work

__all__ = ["Console", "Viewer", "viewer_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Console(Work):
    """What the console works on, its settings, and what it has to ask ZenML and MLflow for."""

    options: ConsoleOptions
    facts: Facts
    metrics: ConsoleMetrics
    access: Access


def viewer_of(connection: HTTPConnection) -> Viewer:
    """Return who sends a request, as the gate found out."""
    viewer: Viewer = connection.scope["state"]["viewer"]
    return viewer
