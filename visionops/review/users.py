"""People who use the console, and what each may do."""

from __future__ import annotations

import enum

__all__ = ["UserRole"]


class UserRole(enum.StrEnum):
    """What a person may do; each role may do all that the one before it may."""

    VIEWER = "viewer"
    """Look at everything, and predict."""
    REVIEWER = "reviewer"
    """Decide items, and send images to review."""
    ENGINEER = "engineer"
    """Train, export labels, promote and roll back."""
    ADMIN = "admin"
    """Reopen items, and manage users."""

    def includes(self, other: UserRole) -> bool:
        """Return whether this role may do what ``other`` may."""
        roles = list(UserRole)
        return roles.index(self) >= roles.index(other)
