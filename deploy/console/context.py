"""Provide the services that the pages of one console share."""

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
    """Services of one console: use cases, runs, reviews, options, access, metrics, and facts of ZenML and MLflow."""

    options: ConsoleOptions
    facts: Facts
    metrics: ConsoleMetrics
    access: Access


def viewer_of(connection: HTTPConnection) -> Viewer:
    """Return the viewer that the gate has identified for a request."""
    viewer: Viewer = connection.scope["state"]["viewer"]
    return viewer
