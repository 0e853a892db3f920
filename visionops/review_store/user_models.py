"""Define the tables of users, their sessions, and every change of a user."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from visionops.review.users import UserRole
from visionops.review_store.tables import DIGEST, ID, Base, among

__all__ = ["SessionRow", "UserChangeRow", "UserRow"]


class UserRow(Base):
    """A person who may sign in."""

    __tablename__ = "console_users"
    __table_args__ = (
        CheckConstraint(among("role", UserRole), "role"),
        CheckConstraint("(hash IS NULL) <> (subject IS NULL)", "secret"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    """Name without regard to case."""
    role: Mapped[str]
    hash: Mapped[str | None]
    subject: Mapped[str | None] = mapped_column(unique=True)
    is_disabled: Mapped[bool]
    added: Mapped[datetime]


class SessionRow(Base):
    """A session that is active, or has expired and is not deleted yet."""

    __tablename__ = "console_sessions"
    __table_args__ = (Index(None, "user"),)

    digest: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    user: Mapped[str] = mapped_column(ID, ForeignKey("console_users.id"))
    started: Mapped[datetime]
    seen: Mapped[datetime]


class UserChangeRow(Base):
    """A change of a user."""

    __tablename__ = "console_user_changes"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    name: Mapped[str]
    details: Mapped[dict[str, Any]]
