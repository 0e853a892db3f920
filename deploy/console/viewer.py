"""Who looks at a page, and what they may do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from visionops.review.errors import Forbidden
from visionops.review.states import Actor
from visionops.review.users import UserRole

__all__ = ["LOCAL", "Viewer"]


@dataclasses.dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page."""

    name: str
    role: UserRole
    session: str | None = None
    """Id of the session; None without users, where this machine is served as a local admin."""
    recheck: Callable[[], Viewer] | None = dataclasses.field(default=None, compare=False, repr=False)
    """Returns who the viewer is now; blocks. Raises `NotSignedIn` where the session has ended."""

    @property
    def actor(self) -> Actor:
        """Who signs what is decided, ordered or reopened."""
        return Actor(self.name, is_admin=self.role is UserRole.ADMIN)

    def current(self) -> Viewer:
        """Return who the viewer is now, with the role of now. It waits for the database.

        Raises:
            NotSignedIn: The session has ended.
            Unavailable: The database cannot be reached.
        """
        return self if self.recheck is None else self.recheck()

    def require(self, role: UserRole) -> None:
        """Check that the viewer may do what a role may.

        Raises:
            Forbidden: They may not.
        """
        if not self.role.includes(role):
            raise Forbidden(f"{self.name}: is {self.role}; this needs {role}")


LOCAL = Viewer("local", UserRole.ADMIN)
"""Who comes from this machine while there are no users."""
