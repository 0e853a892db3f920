"""Decide who may use the console: users with a session, or this machine while there are no users."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from deploy.console.options import ConsoleOptions
from deploy.console.viewer import LOCAL, Viewer
from deploy.http.errors import NotSignedIn
from deploy.http.keys import KeyRing
from visionops.review.users import User, UserStore, new_token, token_digest

__all__ = ["ENDED", "NO_USERS", "Access"]

ENDED: Final = "your session has ended; sign in again"
NO_USERS: Final = (
    "this console has no users, so it serves its own machine only; add the first one with "
    "visionops user add NAME --role admin"
)
_RECHECK_SECONDS = 1.0


class Access:
    """Identify visitors. Safe to call from several threads; every method may wait for the database.

    Args:
        users: Store of users and sessions.
        keys: API keys of machines that read the metrics.
        now: Returns the current time, time-zone aware.
    """

    def __init__(self, users: UserStore, options: ConsoleOptions, keys: KeyRing, now: Callable[[], datetime]) -> None:
        self.users = users
        self.keys = keys
        self.rules = options.session_rules
        self.now = now
        self.cookie = "__Host-visionops" if options.is_https else "visionops"
        """Name of the cookie that holds the token."""
        self._has_oidc = bool(options.oidc_issuer)
        self._has_users = False
        self._checked = -_RECHECK_SECONDS

    def needs_login(self) -> bool:
        """Return whether visitors must sign in, because there are users or an identity provider."""
        if self._has_oidc or self._has_users:
            return True
        if time.monotonic() - self._checked >= _RECHECK_SECONDS:
            self._has_users = self.users.has_users()
            self._checked = time.monotonic()
        return self._has_users

    def local(self) -> Viewer:
        """Return the viewer of this machine while there are no users.

        Raises:
            NotSignedIn: There are users.
        """
        if self.needs_login():
            raise NotSignedIn(ENDED)
        return dataclasses.replace(LOCAL, recheck=self.local)

    def viewer(self, token: str | None, *, is_used: bool) -> Viewer:
        """Return the viewer whose session has this token.

        Args:
            is_used: Whether a person caused the request, which keeps the session from idling out.

        Raises:
            NotSignedIn: There is no such session, or it has ended.
        """
        return self._viewer(token_digest(token) if token else "", is_used=is_used)

    def open(self, user: User, former: str | None) -> str:
        """Begin a session after a login, and return its new token.

        Args:
            former: Previous token of the browser, whose session ends.

        Raises:
            Forbidden: The user has been disabled.
        """
        token = new_token()
        self.users.open_session(user.id, token_digest(token), self.now(), self.rules)
        self.close(former)
        return token

    def close(self, token: str | None) -> None:
        """End the session of a token, if there is one."""
        if token:
            self.users.end_session(token_digest(token))

    def _viewer(self, digest: str, *, is_used: bool) -> Viewer:
        user = self.users.session(digest, self.now(), self.rules, is_used=is_used) if digest else None
        if user is None:
            raise NotSignedIn(ENDED if digest else "sign in first")
        return Viewer(user.name, user.role, digest[:12], lambda: self._viewer(digest, is_used=True))
