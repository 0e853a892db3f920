"""Passwords: argon2id hashes, and what a password must be."""

from __future__ import annotations

import functools
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from visionops.review.errors import Invalid
from visionops.review.users import Credentials, key_of

__all__ = ["FEWEST", "check_password", "hash_password", "matches", "needs_rehash"]

FEWEST = 10
_MOST = 200
"""Characters."""
_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(2)
"""A hash takes 64 MiB and a whole core for a while: logins wait for each other, not for memory."""


def check_password(password: str, name: str) -> str:
    """Return a password in the form in which it is hashed: NFKC, so that every keyboard types the same.

    Raises:
        Invalid: It has too few or too many characters, or is the user's name.
    """
    found = unicodedata.normalize("NFKC", password)
    if not FEWEST <= len(found) <= _MOST:
        raise Invalid(f"password: has {len(found)} characters; expected {FEWEST} to {_MOST}")
    if key_of(found) == key_of(name):
        raise Invalid("password: is the name; choose another")
    return found


def hash_password(password: str, name: str) -> str:
    """Return the hash of a new password, with its parameters and salt.

    Raises:
        Invalid: As `check_password`.
    """
    checked = check_password(password, name)
    with _turns:
        return _hasher.hash(checked)


def matches(found: Credentials | None, password: str) -> bool:
    """Return whether a password is that of a user; it takes as long where there is no such user."""
    known = None if found is None else found.hash
    text = unicodedata.normalize("NFKC", password[: 2 * _MOST])
    with _turns:
        try:
            is_right = _hasher.verify(known or _nobody(), text)
        except (VerificationError, InvalidHashError):
            return False
    return is_right and known is not None


def needs_rehash(hashed: str) -> bool:
    """Return whether a hash was made with other parameters than new ones."""
    return _hasher.check_needs_rehash(hashed)


@functools.cache
def _nobody() -> str:
    return _hasher.hash("nobody has this password")
