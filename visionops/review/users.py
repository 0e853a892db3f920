"""People who use the console: their roles, their sessions, and what a store keeps of them.

A session is known by the digest of its token, so that who reads the database cannot sign in by it. It ends after a
while without use, after its longest life, and with a log-out, a new password, or the end of the user's rights.
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
"""Characters."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in."""

    id: str
    """32 hex digits; never used again."""
    name: str
    """Signs decisions and runs. Unique without regard to case."""
    role: UserRole
    added: datetime
    """Aware."""
    is_disabled: bool = False
    subject: str | None = None
    """Issuer and id at an identity provider; None for a user with a password."""


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """A user as the list of users shows them."""

    user: User
    sessions: int
    """Sessions that go on."""
    last_seen: datetime | None
    """Newest use of one of these sessions; None without any."""


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """A user, and the hash of their password."""

    user: User
    hash: str | None
    """None for a user of an identity provider."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionRules:
    """How long a session goes on."""

    longest: timedelta = timedelta(hours=12)
    """From the login on, whatever happens."""
    idle: timedelta = timedelta(hours=2)
    """Since its last use."""


@dataclasses.dataclass(frozen=True, slots=True)
class UserChange:
    """One change of a user; none is ever removed."""

    at: datetime
    actor: str
    action: str
    """``add``, ``role``, ``password``, ``disable``, ``enable`` or ``end sessions``."""
    name: str
    details: Mapping[str, Any]


class UserStore(Protocol):
    """Keeps users, sessions, and every change of a user. Every method is one transaction; times are aware.

    All raise `Unavailable` where the database cannot be reached or written. Those with a name raise `NotFound` where no
    user has it; upper and lower case do not count. The last admin who may sign in cannot be disabled or get another
    role (`Conflict`).
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
            subject: Issuer and id there; None for a user with a password.

        Raises:
            Conflict: There is a user of this name or subject.
            Invalid: The name cannot be kept.
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
        """Give a user another role. Their sessions go on with it."""

    def set_password(self, name: str, hashed: str, actor: str, now: datetime) -> User:
        """Replace a password, and end the user's sessions.

        Raises:
            Conflict: The user signs in at an identity provider.
        """

    def keep_hash(self, user: str, before: str, hashed: str) -> None:
        """Replace the hash of an unchanged password by a newer one. Nothing happens where it is not ``before`` now."""

    def set_disabled(self, name: str, actor: str, now: datetime, *, is_disabled: bool) -> User:
        """Let a user sign in no more, and end their sessions; or let them again."""

    def end_sessions(self, name: str, actor: str, now: datetime) -> int:
        """End a user's sessions; return how many."""

    def open_session(self, user: str, digest: str, now: datetime, rules: SessionRules) -> None:
        """Begin a session of a user, by id, and forget those that have ended.

        Raises:
            Forbidden: The user has been disabled.
        """

    def session(self, digest: str, now: datetime, rules: SessionRules, *, is_used: bool) -> User | None:
        """Return whose session it is; None where it has ended.

        Args:
            is_used: A person does something, which keeps the session from idling out.
        """

    def end_session(self, digest: str) -> None:
        """End one session, if it goes on."""

    def changes(self, limit: int = 100) -> list[UserChange]:
        """Return the newest changes, newest first."""


def check_user_name(name: str) -> str:
    """Return a name as it is kept: NFC, without spaces around it.

    Raises:
        Invalid: It is empty, longer than 80 characters, not one line, or has a character that cannot be seen.
    """
    kept = check_name(unicodedata.normalize("NFC", name).strip(), "name", MOST_USER_NAME)
    if any(unicodedata.category(mark) in {"Cf", "Co", "Cn", "Zl", "Zp"} for mark in kept):
        raise Invalid("name: has a character that cannot be seen; remove it")
    return kept


def key_of(name: str) -> str:
    """Return what is the same for names that differ in case, width or composition alone."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()


def new_token() -> str:
    """Return the token of a new session: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def token_digest(token: str) -> str:
    """Return what is kept of a token: SHA-256, lower-case hex. A token is random, so no slow hash is needed."""
    return hashlib.sha256(token.encode("utf-8", "backslashreplace")).hexdigest()
