"""What the pages of one console share, and who looks at a page."""

from __future__ import annotations

import dataclasses

from starlette.requests import HTTPConnection

from deploy.console.facts import Facts
from deploy.console.metrics import ConsoleMetrics
from deploy.console.options import ConsoleOptions
from deploy.control.work import Work
from visionops.review.errors import Forbidden
from visionops.review.states import Actor
from visionops.review.users import UserRole

__all__ = ["LOCAL", "Console", "Viewer", "viewer_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page."""

    name: str
    role: UserRole
    session: str | None = None
    """Id of the session; None without users, where this machine is served as a local admin."""

    @property
    def actor(self) -> Actor:
        """Who signs what is decided, ordered or reopened."""
        return Actor(self.name, is_admin=self.role is UserRole.ADMIN)

    def require(self, role: UserRole) -> None:
        """Check that the viewer may do what a role may.

        Raises:
            Forbidden: They may not.
        """
        if not self.role.includes(role):
            raise Forbidden(f"{self.name}: is {self.role}; this needs {role}")


LOCAL = Viewer("local", UserRole.ADMIN)
"""Who comes from this machine while there are no users."""


@dataclasses.dataclass(frozen=True, slots=True)
class Console(Work):
    """What the console works on, its settings, and what it has to ask ZenML and MLflow for."""

    options: ConsoleOptions
    facts: Facts
    metrics: ConsoleMetrics


def viewer_of(connection: HTTPConnection) -> Viewer:
    """Return who sends a request, as the gate found out."""
    viewer: Viewer = connection.scope["state"]["viewer"]
    return viewer
