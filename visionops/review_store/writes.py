"""Handle repeated writes, and store the audit row and the new status of an item."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from sqlalchemy import CursorResult, Executable, and_, insert, update
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.errors import KeyReused
from visionops.review.items import ReviewItem
from visionops.review.ports import Write
from visionops.review.states import Status
from visionops.review_store.models import AuditEntry, ItemRow
from visionops.review_store.reading import read_item
from visionops.review_store.rows import status_columns, status_from_answer
from visionops.review_store.write_models import WriteRow

__all__ = ["answered", "as_it_was", "count_rows", "keep_audit", "set_status", "store_response"]


def answered(session: Session, write: Write) -> WriteRow | None:
    """Return the earlier answer to this write; None where the write is new.

    Raises:
        KeyReused: The key was used for another write.
    """
    row = session.get(WriteRow, write.id)
    if row is not None and row.content != write.content:
        raise KeyReused(f"key: {write.actor.name} used it for another write at {row.at:%Y-%m-%d %H:%M:%S} UTC")
    return row


def as_it_was(session: Session, row: WriteRow) -> ReviewItem:
    """Return the item as the write left it, regardless of later changes."""
    assert row.item is not None
    item = read_item(session, row.item)
    return dataclasses.replace(item, status=status_from_answer(row.answer["status"]))


def store_response(session: Session, write: Write, item: str | None, answer: dict[str, Any]) -> None:
    """Store the answer to a write, in the same transaction as the write."""
    session.execute(
        insert(WriteRow).values(id=write.id, content=write.content, at=in_utc(write.now), item=item, answer=answer)
    )


def keep_audit(
    session: Session, item: str, write: Write, action: str, before: str, after: Status, details: dict[str, Any]
) -> None:
    """Store the audit row of a change."""
    session.execute(
        insert(AuditEntry).values(
            item=item,
            revision=after.revision,
            at=in_utc(write.now),
            actor=write.actor.name,
            action=action,
            before=before,
            after=after.state.value,
            details=details,
        )
    )


def set_status(session: Session, item: str, before: Status, after: Status) -> None:
    """Replace the status of a locked item."""
    same = and_(ItemRow.id == item, ItemRow.revision == before.revision)
    statement = update(ItemRow).where(same).values(**status_columns(after))
    if count_rows(session, statement.execution_options(synchronize_session=False)) != 1:
        raise AssertionError(f"item {item}: changed while it was locked")


def count_rows(session: Session, statement: Executable) -> int:
    """Execute a statement; return the number of rows that it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount
