"""`SqlReviewStore`: the review database behind the domain's port.

Every method is one transaction. A method that changes an item locks its row, applies `advance` to it, and stores the
new status, the audit row and the answer to the write together, or none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.errors import Conflict
from visionops.review.items import AuditRow, DataVersion, Decision, Opinion, QueuePlace, ReviewItem, Submission, UseCase
from visionops.review.likeness import Compared, ComparedWith
from visionops.review.outcomes import Decided, ItemTrace
from visionops.review.ports import Cursor, ItemFilter, Prioritized, Stats, SubmissionResult, Write
from visionops.review.searching import Found, SavedSearch, Search
from visionops.review.states import Change
from visionops.review_store import changing, cursors, intake, placing, searching
from visionops.review_store.database import Database
from visionops.review_store.models import (
    AuditEntry,
    DecisionRow,
    ImageRow,
    ItemRow,
    OpinionRow,
    SubmissionRow,
    UseCaseRow,
)
from visionops.review_store.reading import (
    read_item,
    read_items,
    read_opinions,
    read_second_share,
    read_stats,
    read_use_case,
    read_version,
    read_versions,
)
from visionops.review_store.rows import audit_of, decision_of, opinion_of, submission_of, use_case_of
from visionops.review_store.schema import prepare
from visionops.review_store.tracing import read_decided, read_trace
from visionops.review_store.write_models import ArrivalRow

__all__ = ["SqlReviewStore"]


class SqlReviewStore:
    """Implements `visionops.review.ports.ReviewStore`.

    Raises:
        OtherSchema: The database has the schema of another version.
        Unavailable: It cannot be reached or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        prepare(database)

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    # Use cases

    def put_use_case(self, use_case: UseCase) -> None:
        """See `ReviewStore`."""
        self._database.write(lambda session: _put_use_case(session, use_case))

    def use_case(self, name: str) -> UseCase:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_use_case(session, name))

    def use_cases(self) -> list[UseCase]:
        """See `ReviewStore`."""
        query = select(UseCaseRow).order_by(UseCaseRow.name)
        return self._database.read(lambda session: [use_case_of(row) for row in session.scalars(query)])

    def second_share(self, use_case: str) -> float:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_second_share(session, use_case))

    def set_second_share(self, use_case: str, share: float) -> None:
        """See `ReviewStore`."""
        self._database.write(lambda session: _set_second_share(session, use_case, share))

    # Writing

    def added(self, write: Write) -> SubmissionResult | None:
        """See `ReviewStore`."""
        return self._database.read(lambda session: intake.added_before(session, write))

    def reserve(self, sha256: str, now: datetime) -> str | None:
        """See `ReviewStore`."""
        return self._database.write(lambda session: intake.reserve(session, sha256, now))

    def add(
        self, submission: Submission, token: str | None, write: Write, compared: Compared | None = None
    ) -> SubmissionResult | None:
        """See `ReviewStore`."""
        return self._database.write(lambda session: intake.add(session, submission, token, write, compared))

    def cursors(self, use_case: str, log: str) -> dict[str, Cursor]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: cursors.read_cursors(session, use_case, log))

    def move_cursor(self, use_case: str, log: str, segment: str, cursor: Cursor, now: datetime) -> None:
        """See `ReviewStore`."""
        self._database.write(lambda session: cursors.move_cursor(session, use_case, log, segment, cursor, now))

    def change(
        self,
        item: str,
        change: Change,
        write: Write,
        decision: Decision | None = None,
        opinion: Opinion | None = None,
    ) -> ReviewItem:
        """See `ReviewStore`."""
        return self._database.write(
            lambda session: changing.change_item(session, item, change, write, decision, opinion)
        )

    def claim_next(self, use_case: str, change: Change, write: Write) -> ReviewItem | None:
        """See `ReviewStore`."""
        return self._database.write(lambda session: changing.claim_next(session, use_case, change, write))

    def export(self, use_case: str, write: Write, compared: ComparedWith | None = None) -> DataVersion | None:
        """See `ReviewStore`."""
        return self._database.write(lambda session: changing.export(session, use_case, write, compared))

    def prioritize(self, use_case: str, placed: Sequence[QueuePlace], write: Write) -> Prioritized:
        """See `ReviewStore`."""
        return self._database.write(lambda session: placing.prioritize(session, use_case, placed, write))

    # Reading

    def item(self, item: str) -> ReviewItem:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_item(session, item))

    def items(self, wanted: ItemFilter) -> list[ReviewItem]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_items(session, wanted))

    def arrivals(self, item: str) -> list[Submission]:
        """See `ReviewStore`."""
        query = (
            select(SubmissionRow, ItemRow, ImageRow)
            .join(ItemRow, ItemRow.id == SubmissionRow.item)
            .join(ImageRow, ImageRow.sha256 == ItemRow.sha256)
            .where(SubmissionRow.item == item)
            .order_by(SubmissionRow.number)
        )
        return self._database.read(lambda session: [submission_of(*row) for row in session.execute(query).tuples()])

    def decisions(self, item: str) -> list[Decision]:
        """See `ReviewStore`."""
        query = select(DecisionRow).where(DecisionRow.item == item).order_by(DecisionRow.round)
        return self._database.read(lambda session: [decision_of(row) for row in session.scalars(query)])

    def opinions(self, item: str) -> list[Opinion]:
        """See `ReviewStore`."""
        query = select(OpinionRow).where(OpinionRow.item == item).order_by(OpinionRow.round, OpinionRow.number)
        return self._database.read(lambda session: [opinion_of(row) for row in session.scalars(query)])

    def opinions_of(self, use_case: str) -> list[Opinion]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_opinions(session, use_case))

    def history(self, item: str) -> list[AuditRow]:
        """See `ReviewStore`."""
        query = select(AuditEntry).where(AuditEntry.item == item).order_by(AuditEntry.revision)
        return self._database.read(lambda session: [audit_of(row) for row in session.scalars(query)])

    def version(self, use_case: str, number: int) -> list[tuple[ReviewItem, Decision]]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_version(session, use_case, number))

    def decided(
        self, use_case: str, version: int | None = None, rejected_until: datetime | None = None
    ) -> list[Decided]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_decided(session, use_case, version, rejected_until))

    def trace(self, item: str) -> ItemTrace:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_trace(session, item))

    def versions(self, use_case: str) -> list[DataVersion]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_versions(session, use_case))

    def stats(self, use_case: str) -> Stats:
        """See `ReviewStore`."""
        return self._database.read(lambda session: read_stats(session, use_case))

    # Searching

    def search(self, search: Search) -> Found:
        """See `ReviewStore`."""
        return self._database.read(lambda session: searching.read_found(session, search))

    def search_ids(self, search: Search) -> list[str]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: searching.read_found_ids(session, search))

    def classes_found(self, use_case: str) -> list[str]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: searching.read_classes(session, use_case))

    def searches(self, owner: str) -> list[SavedSearch]:
        """See `ReviewStore`."""
        return self._database.read(lambda session: searching.read_searches(session, owner))

    def keep_search(self, saved: SavedSearch, now: datetime) -> None:
        """See `ReviewStore`."""
        self._database.write(lambda session: searching.keep_search(session, saved, now))

    def drop_search(self, owner: str, name: str) -> None:
        """See `ReviewStore`."""
        self._database.write(lambda session: searching.drop_search(session, owner, name))

    # Sweeping

    def unfinished(self, before: datetime) -> list[str]:
        """See `ReviewStore`."""
        query = select(ArrivalRow.sha256).where(ArrivalRow.at < in_utc(before)).order_by(ArrivalRow.sha256)
        return self._database.read(lambda session: list(session.scalars(query)))

    def missing(self, digests: Sequence[str]) -> set[str]:
        """See `ReviewStore`."""
        query = select(ImageRow.sha256).where(ImageRow.sha256.in_(digests))
        return set(digests) - self._database.read(lambda session: set(session.scalars(query)))

    def forget(self, sha256: str, before: datetime, remove: Callable[[], None]) -> bool:
        """See `ReviewStore`."""
        return self._database.write(lambda session: intake.forget(session, sha256, before, remove))


def _put_use_case(session: Session, use_case: UseCase) -> None:
    row = session.get(UseCaseRow, use_case.name, with_for_update=True)
    scheme = use_case.scheme.model_dump(mode="json")
    if row is None:
        session.execute(insert(UseCaseRow).values(name=use_case.name, task=use_case.task, scheme=scheme))
        return
    known = use_case_of(row)
    if known.task != use_case.task:
        raise Conflict(f"use case {known.name}: is in review as {known.task}, not {use_case.task}")
    if not use_case.scheme.extends(known.scheme):
        raise Conflict(
            f"use case {known.name}: its classes differ from those in review; append new ones to the existing ones"
        )
    row.scheme = scheme


def _set_second_share(session: Session, use_case: str, share: float) -> None:
    read_use_case(session, use_case)
    session.execute(update(UseCaseRow).where(UseCaseRow.name == use_case).values(second_share=share))
