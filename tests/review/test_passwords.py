"""Passwords: their hashes, and the rules for new ones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from argon2 import PasswordHasher

from visionops.review.errors import Invalid
from visionops.review.passwords import hash_password, matches, needs_rehash
from visionops.review.users import Credentials, User, UserRole

SECRET = "a pässword for tests"


def of(hashed: str | None) -> Credentials:
    return Credentials(User("1", "anna", UserRole.VIEWER, datetime(2026, 11, 29, tzinfo=UTC)), hashed)


def test_a_password_opens_only_its_user():
    hashed = hash_password(SECRET, "anna")
    assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert matches(of(hashed), SECRET)
    assert matches(of(hashed), "a pa\u0308ssword for tests")  # as another keyboard types it
    assert not matches(of(hashed), "another password")
    assert not matches(of(None), SECRET)
    assert not matches(of("no hash"), SECRET)
    assert not matches(None, SECRET)
    assert not matches(None, "nobody has this password")
    assert hash_password(SECRET, "anna") != hashed


def test_a_hash_of_other_parameters_is_made_again():
    weak = PasswordHasher(time_cost=1, memory_cost=8192).hash(SECRET)
    assert matches(of(weak), SECRET)
    assert needs_rehash(weak)
    assert not needs_rehash(hash_password(SECRET, "anna"))


@pytest.mark.parametrize("password", ["", "too short", "x" * 201, "Anna of the line"])
def test_a_password_that_is_easily_guessed_is_refused(password: str):
    with pytest.raises(Invalid, match=r"^password: "):
        hash_password(password, "anna of the line")
