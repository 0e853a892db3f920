"""`SqlUserStore`: users and their sessions in the review database."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.errors import Conflict, Forbidden, NotFound
from visionops.review.users import (
    Account,
    Credentials,
    SessionRules,
    User,
    UserChange,
    UserRole,
    check_user_name,
    key_of,
)
from visionops.review_store.database import Database
from visionops.review_store.schema import prepare
from visionops.review_store.user_models import SessionRow, UserChangeRow, UserRow
from visionops.review_store.writes import count_rows

__all__ = ["SqlUserStore"]

_SEEN_EVERY = timedelta(minutes=1)
"""Precision of the last use of a session, so that not every request is a write."""


class SqlUserStore:
    """Implements `visionops.review.users.UserStore`.

    Raises:
        OtherSchema: The database has the schema of another version.
        Unavailable: It cannot be reached or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)

    def has_users(self) -> bool:
        """See `UserStore`."""
        return self._database.read(lambda session: session.scalar(select(UserRow.id).limit(1)) is not None)

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
        """See `UserStore`."""
        kept = check_user_name(name)
        user = User(uuid.uuid4().hex, kept, role, in_utc(now), subject=subject)

        def work(session: Session) -> User:
            same = or_(UserRow.key == key_of(kept), and_(UserRow.subject.is_not(None), UserRow.subject == subject))
            if (other := session.scalar(select(UserRow.name).where(same))) is not None:
                raise Conflict(f"user {other}: already exists")
            session.execute(
                insert(UserRow).values(
                    id=user.id,
                    name=user.name,
                    key=key_of(kept),
                    role=role.value,
                    hash=hashed,
                    subject=subject,
                    is_disabled=False,
                    added=user.added,
                )
            )
            _keep_change(session, actor, "add", user.name, now, {"role": role.value})
            return user

        return self._database.write(work)

    def accounts(self, now: datetime, rules: SessionRules) -> list[Account]:
        """See `UserStore`."""

        def work(session: Session) -> list[Account]:
            query = select(SessionRow.user, func.count(), func.max(SessionRow.seen, type_=SessionRow.seen.type))
            rows = session.execute(query.where(_goes_on(now, rules)).group_by(SessionRow.user))
            known = {user: (count, seen) for user, count, seen in rows}
            users = [_user_of(row) for row in session.scalars(select(UserRow).order_by(UserRow.key))]
            return [Account(user, *known.get(user.id, (0, None))) for user in users]

        return self._database.read(work)

    def user(self, name: str) -> User:
        """See `UserStore`."""
        return self._database.read(lambda session: _user_of(_found(session, name)))

    def credentials(self, name: str) -> Credentials | None:
        """See `UserStore`."""

        def work(session: Session) -> Credentials | None:
            row = session.scalar(select(UserRow).where(UserRow.key == key_of(name)))
            return None if row is None else Credentials(_user_of(row), row.hash)

        return self._database.read(work)

    def by_subject(self, subject: str) -> User | None:
        """See `UserStore`."""

        def work(session: Session) -> User | None:
            row = session.scalar(select(UserRow).where(UserRow.subject == subject))
            return None if row is None else _user_of(row)

        return self._database.read(work)

    def set_role(self, name: str, role: UserRole, actor: str, now: datetime) -> User:
        """See `UserStore`."""

        def change(session: Session, row: UserRow) -> dict[str, Any] | None:
            if row.role == role.value:
                return None
            if role is not UserRole.ADMIN:
                _check_not_last(session, row)
            before, row.role = row.role, role.value
            return {"before": before, "after": role.value}

        return self._change(name, "role", actor, now, change)

    def set_password(self, name: str, hashed: str, actor: str, now: datetime) -> User:
        """See `UserStore`."""

        def change(session: Session, row: UserRow) -> dict[str, Any] | None:
            if row.hash is None:
                raise Conflict(f"user {row.name}: signs in at an identity provider and has no password here")
            row.hash = hashed
            return {"sessions": _end_all(session, row)}

        return self._change(name, "password", actor, now, change)

    def keep_hash(self, user: str, before: str, hashed: str) -> None:
        """See `UserStore`."""
        same = and_(UserRow.id == user, UserRow.hash == before)
        self._database.write(lambda session: session.execute(update(UserRow).where(same).values(hash=hashed)))

    def set_disabled(self, name: str, actor: str, now: datetime, *, is_disabled: bool) -> User:
        """See `UserStore`."""

        def change(session: Session, row: UserRow) -> dict[str, Any] | None:
            if row.is_disabled == is_disabled:
                return None
            if is_disabled:
                _check_not_last(session, row)
            row.is_disabled = is_disabled
            return {"sessions": _end_all(session, row)}

        return self._change(name, "disable" if is_disabled else "enable", actor, now, change)

    def end_sessions(self, name: str, actor: str, now: datetime) -> int:
        """See `UserStore`."""
        ended = 0

        def change(session: Session, row: UserRow) -> dict[str, Any] | None:
            nonlocal ended
            ended = _end_all(session, row)
            return {"sessions": ended}

        self._change(name, "end sessions", actor, now, change)
        return ended

    def open_session(self, user: str, digest: str, now: datetime, rules: SessionRules) -> None:
        """See `UserStore`."""
        at = in_utc(now)

        def work(session: Session) -> None:
            row = session.get(UserRow, user, with_for_update=True)
            if row is None or row.is_disabled:
                raise Forbidden("this user may not sign in; an admin can change that")
            session.execute(delete(SessionRow).where(~_goes_on(now, rules)))
            session.execute(insert(SessionRow).values(digest=digest, user=user, started=at, seen=at))

        self._database.write(work)

    def session(self, digest: str, now: datetime, rules: SessionRules, *, is_used: bool) -> User | None:
        """See `UserStore`."""
        same = and_(SessionRow.digest == digest, _goes_on(now, rules), ~UserRow.is_disabled)

        def read(session: Session) -> tuple[User, datetime] | None:
            query = select(UserRow, SessionRow.seen).join(SessionRow, SessionRow.user == UserRow.id).where(same)
            row = session.execute(query).one_or_none()
            return None if row is None else (_user_of(row[0]), row[1])

        found = self._database.read(read)
        if found is None:
            return None
        user, seen = found
        if is_used and in_utc(now) - seen >= _SEEN_EVERY:
            newer = update(SessionRow).where(SessionRow.digest == digest).values(seen=in_utc(now))
            self._database.write(lambda session: session.execute(newer))
        return user

    def end_session(self, digest: str) -> None:
        """See `UserStore`."""
        statement = delete(SessionRow).where(SessionRow.digest == digest)
        self._database.write(lambda session: session.execute(statement))

    def changes(self, limit: int = 100) -> list[UserChange]:
        """See `UserStore`."""
        query = select(UserChangeRow).order_by(UserChangeRow.number.desc()).limit(limit)

        def work(session: Session) -> list[UserChange]:
            return [UserChange(one.at, one.actor, one.action, one.name, one.details) for one in session.scalars(query)]

        return self._database.read(work)

    def _change(
        self,
        name: str,
        action: str,
        actor: str,
        now: datetime,
        change: Callable[[Session, UserRow], dict[str, Any] | None],
    ) -> User:
        """Change a locked user; ``change`` returns the details, or None where nothing changed."""

        def work(session: Session) -> User:
            # Lock all rows of admins in one order, so that two who demote each other do not both succeed.
            session.execute(
                select(UserRow.id).where(UserRow.role == UserRole.ADMIN.value).order_by(UserRow.id).with_for_update()
            )
            row = _found(session, name, locks=True)
            details = change(session, row)
            session.flush()
            if details is not None:
                _keep_change(session, actor, action, row.name, now, details)
            return _user_of(row)

        return self._database.write(work)


def _goes_on(now: datetime, rules: SessionRules) -> ColumnElement[bool]:
    at = in_utc(now)
    return and_(SessionRow.started > at - rules.longest, SessionRow.seen > at - rules.idle)


def _found(session: Session, name: str, *, locks: bool = False) -> UserRow:
    query = select(UserRow).where(UserRow.key == key_of(name))
    row = session.scalar(query.with_for_update() if locks else query)
    if row is None:
        raise NotFound(f"user {name}: does not exist; run `visionops user list` to see all users")
    return row


def _check_not_last(session: Session, row: UserRow) -> None:
    if row.role != UserRole.ADMIN.value or row.is_disabled:
        return
    others = select(UserRow.id).where(UserRow.role == UserRole.ADMIN.value, ~UserRow.is_disabled, UserRow.id != row.id)
    if session.scalar(others.limit(1)) is None:
        raise Conflict(f"user {row.name}: is the last admin; make another one first")


def _end_all(session: Session, row: UserRow) -> int:
    return count_rows(session, delete(SessionRow).where(SessionRow.user == row.id))


def _keep_change(session: Session, actor: str, action: str, name: str, now: datetime, details: dict[str, Any]) -> None:
    session.execute(
        insert(UserChangeRow).values(at=in_utc(now), actor=actor, action=action, name=name, details=details)
    )


def _user_of(row: UserRow) -> User:
    return User(row.id, row.name, UserRole(row.role), row.added, row.is_disabled, row.subject)
