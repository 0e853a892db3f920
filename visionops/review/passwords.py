"""Hash and check passwords with argon2id, and check the rules for new passwords."""

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
"""Maximum length in characters."""
_hasher = PasswordHasher()
_turns = threading.BoundedSemaphore(2)
"""Lock around hashing: a hash takes 64 MiB and a full core, so logins wait for each other instead of exhausting
memory."""


def check_password(password: str, name: str) -> str:
    """Return a password in the form that is hashed: NFKC, so that every keyboard produces the same text.

    Raises:
        Invalid: It has too few or too many characters, or is the user's name.
    """
    found = unicodedata.normalize("NFKC", password)
    if not FEWEST <= len(found) <= _MOST:
        raise Invalid(f"password: has {len(found)} characters; expected {FEWEST} to {_MOST}")
    if key_of(found) == key_of(name):
        raise Invalid("password: is the same as the name; choose another")
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
    """Return whether a password is that of a user; takes equally long for an unknown user."""
    known = None if found is None else found.hash
    text = unicodedata.normalize("NFKC", password[: 2 * _MOST])
    with _turns:
        try:
            is_right = _hasher.verify(known or _nobody(), text)
        except (VerificationError, InvalidHashError):
            return False
    return is_right and known is not None


def needs_rehash(hashed: str) -> bool:
    """Return whether a hash was made with other parameters than the current ones."""
    return _hasher.check_needs_rehash(hashed)


@functools.cache
def _nobody() -> str:
    return _hasher.hash("nobody has this password")
