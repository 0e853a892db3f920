"""Define the viewer of a page, with their role."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from visionops.review.errors import Forbidden
from visionops.review.states import Actor
from visionops.review.users import UserRole

__all__ = ["LOCAL", "Viewer"]


@dataclasses.dataclass(frozen=True, slots=True)
class Viewer:
    """The person who views a page."""

    name: str
    role: UserRole
    session: str | None = None
    """Id of the session; None without users, when this machine is served as a local admin."""
    recheck: Callable[[], Viewer] | None = dataclasses.field(default=None, compare=False, repr=False)
    """Returns the viewer with the current role; blocks. Raises `NotSignedIn` if the session has ended."""

    @property
    def actor(self) -> Actor:
        """Return the actor that is recorded for decisions and requests."""
        return Actor(self.name, is_admin=self.role is UserRole.ADMIN)

    def current(self) -> Viewer:
        """Return the viewer with the current role. Waits for the database.

        Raises:
            NotSignedIn: The session has ended.
            Unavailable: The database cannot be reached.
        """
        return self if self.recheck is None else self.recheck()

    def require(self, role: UserRole) -> None:
        """Check that the viewer has at least a role.

        Raises:
            Forbidden: The viewer's role is lower.
        """
        if not self.role.includes(role):
            raise Forbidden(f"{self.name}: has role {self.role}; this needs role {role}")


LOCAL = Viewer("local", UserRole.ADMIN)
"""Viewer of requests from this machine while there are no users."""
