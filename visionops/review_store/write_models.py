"""Define the tables that make writes and intake repeatable: answers, announced images, and read positions of logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from visionops.review_store.tables import DIGEST, ID, Base

__all__ = ["ArrivalRow", "CursorRow", "WriteRow"]


class ArrivalRow(Base):
    """An image that was announced and is not registered as durable yet."""

    __tablename__ = "review_arrivals"

    sha256: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    token: Mapped[str] = mapped_column(ID)
    at: Mapped[datetime]


class CursorRow(Base):
    """Position up to which the intake has read a segment of a log."""

    __tablename__ = "review_cursors"

    use_case: Mapped[str] = mapped_column(ForeignKey("review_use_cases.name"), primary_key=True)
    log: Mapped[str] = mapped_column(primary_key=True)
    segment: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int]
    is_finished: Mapped[bool]
    at: Mapped[datetime]


class WriteRow(Base):
    """Answer to a write, returned again when the write is repeated."""

    __tablename__ = "review_writes"

    id: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    content: Mapped[str] = mapped_column(DIGEST)
    at: Mapped[datetime]
    item: Mapped[str | None] = mapped_column(ForeignKey("review_items.id"))
    answer: Mapped[dict[str, Any]]
