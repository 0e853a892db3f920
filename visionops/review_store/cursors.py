"""Store how far the intake has read each segment of a log. Each function is one transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.ports import Cursor
from visionops.review_store.reading import read_use_case
from visionops.review_store.write_models import CursorRow

__all__ = ["move_cursor", "read_cursors"]


def read_cursors(session: Session, use_case: str, log: str) -> dict[str, Cursor]:
    """See `ReviewStore.cursors`."""
    read_use_case(session, use_case)
    query = select(CursorRow).where(CursorRow.use_case == use_case, CursorRow.log == log)
    return {row.segment: Cursor(row.rows, is_finished=row.is_finished) for row in session.scalars(query)}


def move_cursor(session: Session, use_case: str, log: str, segment: str, cursor: Cursor, now: datetime) -> None:
    """See `ReviewStore.move_cursor`."""
    row = session.get(CursorRow, (use_case, log, segment), with_for_update=True)
    if row is None:
        values = {"rows": cursor.rows, "is_finished": cursor.is_finished, "at": in_utc(now)}
        session.execute(insert(CursorRow).values(use_case=use_case, log=log, segment=segment, **values))
    elif cursor.rows > row.rows or cursor.is_finished > row.is_finished:
        # Another intake may have read further.
        row.rows, row.is_finished = max(row.rows, cursor.rows), row.is_finished or cursor.is_finished
        row.at = in_utc(now)
