"""Create users and sessions of a console directly in its database."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from visionops.review.passwords import hash_password
from visionops.review.users import SessionRules, UserRole, new_token, token_digest
from visionops.review_store.database import Database
from visionops.review_store.users import SqlUserStore

PASSWORD = "a password for tests"
RULES = SessionRules()
_addresses = itertools.count()


@contextlib.contextmanager
def user_store(home: Path) -> Iterator[SqlUserStore]:
    """Open the users of a console with this home."""
    database = Database(str(home / "review" / "review.db"))
    yield SqlUserStore(database)
    database.close()


def add_users(home: Path, **roles: UserRole) -> None:
    """Add users by name, all with one password."""
    hashed = hash_password(PASSWORD, "nobody")
    with user_store(home) as users:
        for name, role in roles.items():
            users.add(name, role, "test", datetime.now(UTC), hashed=hashed)


def session_of(home: Path, name: str) -> str:
    """Create a session of a user and return its token."""
    token = new_token()
    with user_store(home) as users:
        users.open_session(users.user(name).id, token_digest(token), datetime.now(UTC), RULES)
    return token


def visitor(url: str, token: str | None = None, **headers: str) -> httpx.Client:
    """Open a client that follows no redirects, with a session's cookie if one is given.

    Each client has a different address for a console that trusts this machine as a proxy, unless ``headers`` set one.
    """
    address = {"X-Forwarded-For": f"198.51.100.{next(_addresses) % 250 + 1}"}
    cookies = {} if token is None else {"visionops": token}
    return httpx.Client(base_url=url, cookies=cookies, headers=address | headers, timeout=120, trust_env=False)


def form_token(client: httpx.Client) -> str:
    """Load the login form into the client, and return its token."""
    page = client.get("/login")
    assert page.status_code == 200
    return str(client.cookies["visionops-form"])


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    """Submit the login form as its page does."""
    form = {"token": form_token(client), "name": name, "password": password} | fields
    return client.post("/login", data=form, headers={"Origin": str(client.base_url).rstrip("/")})
