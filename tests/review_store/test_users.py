"""Users and their sessions, on both kinds of database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.helpers.review import NOW
from visionops.review.errors import Conflict, Forbidden, Invalid, NotFound
from visionops.review.users import SessionRules, UserRole, new_token, token_digest
from visionops.review_store.database import Database
from visionops.review_store.users import SqlUserStore

RULES = SessionRules(longest=timedelta(hours=12), idle=timedelta(hours=2))


@pytest.fixture
def users(place: str) -> Iterator[SqlUserStore]:
    database = Database(place)
    yield SqlUserStore(database)
    database.close()


def sign_in(users: SqlUserStore, name: str, at=NOW) -> str:
    digest = token_digest(new_token())
    users.open_session(users.user(name).id, digest, at, RULES)
    return digest


def goes_on(users: SqlUserStore, digest: str, at=NOW, *, is_used: bool = False) -> bool:
    return users.session(digest, at, RULES, is_used=is_used) is not None


def test_users_are_kept_with_every_change(users: SqlUserStore):
    assert not users.has_users()
    assert users.credentials("anna") is None
    users.add(" Anna ", UserRole.ADMIN, "root", NOW, hashed="h1")
    users.add("Zoë", UserRole.VIEWER, "Anna", NOW, subject="https://login.example.com 1")
    assert users.has_users()
    for other in ("anna", "ANNA", "\uff21nna"):
        with pytest.raises(Conflict, match="user Anna: already exists"):
            users.add(other, UserRole.VIEWER, "root", NOW, hashed="h")
    with pytest.raises(Conflict, match="user Zoë: already exists"):
        users.add("other", UserRole.VIEWER, "root", NOW, subject="https://login.example.com 1")
    assert users.set_role("zoë", UserRole.ENGINEER, "Anna", NOW).role is UserRole.ENGINEER
    assert users.set_role("zoë", UserRole.ENGINEER, "Anna", NOW).role is UserRole.ENGINEER  # no change, no row
    users.set_password("anna", "h2", "Anna", NOW)
    credentials = users.credentials("aNNa")
    assert credentials is not None
    assert (credentials.user.name, credentials.hash) == ("Anna", "h2")
    with pytest.raises(Conflict, match="signs in at an identity provider"):
        users.set_password("Zoë", "h", "Anna", NOW)
    found = users.by_subject("https://login.example.com 1")
    assert found is not None
    assert found.name == "Zoë"
    rows = [(one.actor, one.action, one.name, dict(one.details)) for one in users.changes()]
    assert rows == [
        ("Anna", "password", "Anna", {"sessions": 0}),
        ("Anna", "role", "Zoë", {"before": "viewer", "after": "engineer"}),
        ("Anna", "add", "Zoë", {"role": "viewer"}),
        ("root", "add", "Anna", {"role": "admin"}),
    ]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 81, "an\u200bna", "a\u202eb", "\x00"])
def test_names_that_cannot_be_kept_are_refused(users: SqlUserStore, name: str):
    with pytest.raises(Invalid, match=r"^name: "):
        users.add(name, UserRole.VIEWER, "root", NOW, hashed="h")


def test_sessions_end_by_idling_by_age_and_on_request(users: SqlUserStore):
    users.add("anna", UserRole.ADMIN, "root", NOW, hashed="h")
    first, second = sign_in(users, "anna"), sign_in(users, "anna")
    assert not goes_on(users, token_digest("guessed"))
    later = NOW + timedelta(minutes=119)
    assert goes_on(users, first, later)  # only read, so it is not kept alive
    assert not goes_on(users, first, NOW + timedelta(hours=2))
    assert goes_on(users, second, later, is_used=True)
    assert goes_on(users, second, NOW + timedelta(hours=3))
    for hours in range(3, 12):
        assert goes_on(users, second, NOW + timedelta(hours=hours), is_used=True)
    assert not goes_on(users, second, NOW + timedelta(hours=12))
    third = sign_in(users, "anna", later)
    (account,) = users.accounts(later, RULES)
    assert (account.sessions, account.last_seen) == (3, NOW + timedelta(hours=11))
    users.end_session(third)
    assert not goes_on(users, third, later)
    sign_in(users, "anna", NOW + timedelta(hours=12))  # deletes those that have ended
    (account,) = users.accounts(later, RULES)
    assert account.sessions == 1


@pytest.mark.parametrize("how", ["password", "disable", "end"])
def test_what_ends_all_sessions_of_a_user(users: SqlUserStore, how: str):
    users.add("anna", UserRole.ADMIN, "root", NOW, hashed="h")
    users.add("bea", UserRole.REVIEWER, "root", NOW, hashed="h")
    hers = [sign_in(users, "bea"), sign_in(users, "bea")]
    other = sign_in(users, "anna")
    if how == "password":
        users.set_password("bea", "new", "anna", NOW)
    elif how == "disable":
        users.set_disabled("bea", "anna", NOW, is_disabled=True)
        with pytest.raises(Forbidden, match="may not sign in"):
            sign_in(users, "bea")
        users.set_disabled("bea", "anna", NOW, is_disabled=False)
    else:
        assert users.end_sessions("bea", "anna", NOW) == 2
    assert [goes_on(users, one) for one in hers] == [False, False]
    assert goes_on(users, other)
    assert users.changes()[0].details == ({"sessions": 0} if how == "disable" else {"sessions": 2})


def test_the_last_admin_stays_whoever_is_faster(users: SqlUserStore):
    users.add("anna", UserRole.ADMIN, "root", NOW, hashed="h")
    with pytest.raises(Conflict, match="user anna: is the last admin"):
        users.set_role("anna", UserRole.VIEWER, "anna", NOW)
    with pytest.raises(Conflict, match="user anna: is the last admin"):
        users.set_disabled("anna", "anna", NOW, is_disabled=True)
    for name in ("bea", "chen", "dana"):
        users.add(name, UserRole.ADMIN, "anna", NOW, hashed="h")

    def demote(name: str) -> bool:
        try:
            users.set_role(name, UserRole.VIEWER, "anna", NOW)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(demote, ["anna", "bea", "chen", "dana"]))
    assert sorted(done) == [False, True, True, True]
    assert [a.user.role for a in users.accounts(NOW, RULES)].count(UserRole.ADMIN) == 1


def test_an_unknown_name_and_a_hash_that_has_changed_meanwhile(users: SqlUserStore):
    users.add("anna", UserRole.ADMIN, "root", NOW, hashed="h1")
    for call in (
        lambda: users.user("bea"),
        lambda: users.set_role("bea", UserRole.VIEWER, "anna", NOW),
        lambda: users.end_sessions("bea", "anna", NOW),
    ):
        with pytest.raises(NotFound, match="user bea: does not exist; run `visionops user list`"):
            call()
    anna = users.user("anna")
    users.keep_hash(anna.id, "other", "h2")
    assert users.credentials("anna").hash == "h1"
    users.keep_hash(anna.id, "h1", "h2")
    assert users.credentials("anna").hash == "h2"
