"""Types and port for users of the console: their roles and sessions.

A session is stored under the digest of its token, so that nobody can sign in with a copy of the database. It ends when
it is idle or too old, and with a log-out, a new password, or the end of the user's rights.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import secrets
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from visionops.review.checks import check_name
from visionops.review.errors import Invalid

__all__ = [
    "MOST_USER_NAME",
    "Account",
    "Credentials",
    "SessionRules",
    "User",
    "UserChange",
    "UserRole",
    "UserStore",
    "check_user_name",
    "key_of",
    "new_token",
    "token_digest",
]

MOST_USER_NAME = 80
"""Maximum length of a user name, in characters."""


class UserRole(enum.StrEnum):
    """Role of a user. Each role includes the rights of the one before it."""

    VIEWER = "viewer"
    """View everything, and predict."""
    REVIEWER = "reviewer"
    """Decide items, and send images to review."""
    ENGINEER = "engineer"
    """Train, export labels, promote and roll back."""
    ADMIN = "admin"
    """Reopen items, and manage users."""

    def includes(self, other: UserRole) -> bool:
        """Return whether this role includes the rights of ``other``."""
        roles = list(UserRole)
        return roles.index(self) >= roles.index(other)


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in."""

    id: str
    """Id of 32 hex digits; never reused."""
    name: str
    """Name under which decisions and runs are recorded. Unique without regard to case."""
    role: UserRole
    added: datetime
    """Time of creation; aware."""
    is_disabled: bool = False
    subject: str | None = None
    """Issuer and id at an identity provider; None for a user with a password."""


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """A user in the form of the user list."""

    user: User
    sessions: int
    """Number of active sessions."""
    last_seen: datetime | None
    """Latest use of one of these sessions; None where there are none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """A user with the hash of their password."""

    user: User
    hash: str | None
    """Hash of the password; None for a user of an identity provider."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionRules:
    """Limits on the lifetime of a session."""

    longest: timedelta = timedelta(hours=12)
    """Longest time since the login."""
    idle: timedelta = timedelta(hours=2)
    """Longest time since the last use."""


@dataclasses.dataclass(frozen=True, slots=True)
class UserChange:
    """One change of a user. Changes are never removed."""

    at: datetime
    actor: str
    action: str
    """``add``, ``role``, ``password``, ``disable``, ``enable`` or ``end sessions``."""
    name: str
    details: Mapping[str, Any]


class UserStore(Protocol):
    """Store of users, sessions, and every change of a user. Every method is one transaction; times are aware.

    All raise `Unavailable` where the database cannot be reached or written. Methods with a name raise `NotFound` where
    no user has it; case is ignored. The last admin who may sign in cannot be disabled or get another role (`Conflict`).
    """

    def has_users(self) -> bool:
        """Return whether there is a user, disabled or not."""

    def add(
        self,
        name: str,
        role: UserRole,
        actor: str,
        now: datetime,
        *,
        hashed: str | None = None,
        subject: str | None = None,
    ) -> User:
        """Add a user.

        Args:
            hashed: Hash of the password; None for a user of an identity provider.
            subject: Issuer and id at the identity provider; None for a user with a password.

        Raises:
            Conflict: A user with this name or subject exists.
            Invalid: The name is not valid.
        """

    def accounts(self, now: datetime, rules: SessionRules) -> list[Account]:
        """Return all users, by name."""

    def user(self, name: str) -> User:
        """Return a user."""

    def credentials(self, name: str) -> Credentials | None:
        """Return a user with the hash of their password; None where no user has this name."""

    def by_subject(self, subject: str) -> User | None:
        """Return the user of an identity provider; None where there is none."""

    def set_role(self, name: str, role: UserRole, actor: str, now: datetime) -> User:
        """Set the role of a user. Their sessions continue with the new role."""

    def set_password(self, name: str, hashed: str, actor: str, now: datetime) -> User:
        """Replace a password, and end the user's sessions.

        Raises:
            Conflict: The user signs in at an identity provider.
        """

    def keep_hash(self, user: str, before: str, hashed: str) -> None:
        """Replace the hash of an unchanged password. Do nothing where the stored hash is no longer ``before``."""

    def set_disabled(self, name: str, actor: str, now: datetime, *, is_disabled: bool) -> User:
        """Disable a user and end their sessions, or enable them again."""

    def end_sessions(self, name: str, actor: str, now: datetime) -> int:
        """End all sessions of a user; return their number."""

    def open_session(self, user: str, digest: str, now: datetime, rules: SessionRules) -> None:
        """Open a session for a user, and delete sessions that have ended.

        Raises:
            Forbidden: The user is disabled.
        """

    def session(self, digest: str, now: datetime, rules: SessionRules, *, is_used: bool) -> User | None:
        """Return the user of a session; None where it has ended.

        Args:
            is_used: A person is active, so the idle time starts again.
        """

    def end_session(self, digest: str) -> None:
        """End one session, if it is active."""

    def changes(self, limit: int = 100) -> list[UserChange]:
        """Return the newest changes, newest first."""


def check_user_name(name: str) -> str:
    """Return a name in its stored form: NFC, without surrounding spaces.

    Raises:
        Invalid: It is empty, longer than 80 characters, not one line, or has an invisible character.
    """
    kept = check_name(unicodedata.normalize("NFC", name).strip(), "name", MOST_USER_NAME)
    if any(unicodedata.category(mark) in {"Cf", "Co", "Cn", "Zl", "Zp"} for mark in kept):
        raise Invalid("name: has an invisible character; remove it")
    return kept


def key_of(name: str) -> str:
    """Return a key that is equal for names that differ only in case, width or composition."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def new_token() -> str:
    """Return the token of a new session: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """Return the stored digest of a token: SHA-256, lower-case hex. A token is random, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()
