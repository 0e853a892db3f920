"""Read the decisions that count, and the full history of an item. Each function is called inside one transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.items import RANDOM, Origin
from visionops.review.outcomes import Decided, ItemArrival, ItemTrace
from visionops.review.states import Verdict
from visionops.review_store.models import AuditEntry, DecisionRow, ImageRow, ItemRow, MemberRow, SubmissionRow
from visionops.review_store.reading import items_with, read_item, read_use_case
from visionops.review_store.rows import audit_of, decision_of, item_of, submission_of

__all__ = ["read_decided", "read_trace"]


def read_decided(
    session: Session, use_case: str, version: int | None, rejected_until: datetime | None
) -> list[Decided]:
    """See `ReviewStore.decided`.

    Raises:
        NotFound: The use case is unknown.
    """
    read_use_case(session, use_case)
    query = _with_versions(items_with().add_columns(DecisionRow, MemberRow.version), ItemRow.id)
    query = query.where(ItemRow.use_case == use_case)
    rejected = DecisionRow.verdict == Verdict.REJECT.value
    if rejected_until is not None:
        rejected = and_(rejected, DecisionRow.at <= in_utc(rejected_until))
    labelled = DecisionRow.verdict != Verdict.REJECT.value
    if version is not None:
        labelled = MemberRow.version <= version
    query = query.where(or_(labelled, rejected)).order_by(ItemRow.sha256, DecisionRow.round)
    drawn = _drawn_at_random(session, use_case)
    newest = {row[0].id: row for row in session.execute(query)}
    return [
        Decided(item_of(*row[:4]), decision_of(row[4]), row[5], is_random=row[0].id in drawn) for row in newest.values()
    ]


def _with_versions(query: Select[Any], item: Any) -> Select[Any]:
    return query.join(DecisionRow, DecisionRow.item == item).outerjoin(MemberRow, MemberRow.decision == DecisionRow.id)


def _drawn_at_random(session: Session, use_case: str) -> set[str]:
    """Return the ids of decided traffic items that have the reason `RANDOM`, by an arrival or by their place.

    Imported and uploaded images are drawn at random, too, but they do not represent the traffic.
    """
    traffic = select(SubmissionRow.item).where(SubmissionRow.origin == Origin.TRAFFIC.value)
    decided = select(DecisionRow.item).where(DecisionRow.item.in_(traffic))
    arrived = (
        select(SubmissionRow.item, SubmissionRow.reasons)
        .join(ItemRow, ItemRow.id == SubmissionRow.item)
        .where(ItemRow.use_case == use_case, SubmissionRow.item.in_(decided))
    )
    placed = select(ItemRow.id, ItemRow.reasons).where(ItemRow.use_case == use_case, ItemRow.id.in_(decided))
    rows = [*session.execute(arrived), *session.execute(placed)]
    return {item for item, reasons in rows if any(reason["kind"] == RANDOM for reason in reasons or ())}


def read_trace(session: Session, item: str) -> ItemTrace:
    """See `ReviewStore.trace`.

    Raises:
        NotFound: No item has this id.
    """
    found = read_item(session, item)
    arrivals = session.execute(
        select(SubmissionRow, ItemRow, ImageRow)
        .join(ItemRow, ItemRow.id == SubmissionRow.item)
        .join(ImageRow, ImageRow.sha256 == ItemRow.sha256)
        .where(SubmissionRow.item == item)
        .order_by(SubmissionRow.number)
    )
    changes = session.scalars(select(AuditEntry).where(AuditEntry.item == item).order_by(AuditEntry.revision))
    decisions = session.execute(
        select(DecisionRow, MemberRow.version)
        .outerjoin(MemberRow, MemberRow.decision == DecisionRow.id)
        .where(DecisionRow.item == item)
        .order_by(DecisionRow.round)
    )
    return ItemTrace(
        item=found,
        arrivals=tuple(ItemArrival(submission_of(*row), row[0].at, row[0].actor) for row in arrivals.tuples()),
        changes=tuple(map(audit_of, changes)),
        decisions=tuple((decision_of(row), version) for row, version in decisions),
    )
