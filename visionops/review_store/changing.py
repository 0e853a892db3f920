"""Change items: each function locks what it changes, and applies `advance` to the locked state."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, insert, or_, select
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.errors import NotFound, WrongState
from visionops.review.items import DataVersion, Decision, Opinion, ReviewItem
from visionops.review.likeness import ComparedWith
from visionops.review.ports import Write
from visionops.review.states import Action, Change, State, Status, advance
from visionops.review_store.models import DecisionRow, ItemRow, MemberRow, OpinionRow, UseCaseRow, VersionRow
from visionops.review_store.reading import held_out, is_compared, labelled, read_item, read_use_case
from visionops.review_store.rows import opinion_columns, status_of, status_to_answer, version_of
from visionops.review_store.search_models import LABEL
from visionops.review_store.searching import keep_findings
from visionops.review_store.writes import answered, as_it_was, keep_audit, set_status, store_response

__all__ = ["change_item", "claim_next", "export"]


def change_item(
    session: Session, item: str, change: Change, write: Write, decision: Decision | None, opinion: Opinion | None
) -> ReviewItem:
    """See `ReviewStore.change`."""
    if (row := answered(session, write)) is not None:
        return as_it_was(session, row)
    found = session.get(ItemRow, item, with_for_update=True)
    if found is None:
        raise NotFound(f"item {item}: does not exist; run `visionops review list` to see all items")
    return _apply(session, found, change, write, decision, opinion)


def claim_next(session: Session, use_case: str, change: Change, write: Write) -> ReviewItem | None:
    """See `ReviewStore.claim_next`."""
    if (row := answered(session, write)) is not None:
        return as_it_was(session, row)
    read_use_case(session, use_case)
    free = or_(
        ItemRow.state == State.PENDING.value,
        and_(ItemRow.state == State.CLAIMED.value, ItemRow.lease_until <= in_utc(write.now)),
    )
    first = (
        select(ItemRow)
        .where(ItemRow.use_case == use_case, free, *_not_by(change.actor.name))
        .order_by(ItemRow.priority.desc(), ItemRow.added, ItemRow.id)
        .limit(1)
    )
    found = session.scalar(first.with_for_update(skip_locked=True))  # skip items that another reviewer is claiming
    if found is None:
        # All claimable items may be locked by a process that orders the queue. Wait for it instead of reporting an
        # empty queue.
        found = session.scalar(first.with_for_update())
    return None if found is None else _apply(session, found, change, write)


def _not_by(reviewer: str) -> list[ColumnElement[bool]]:
    """Return the condition that a reviewer has given no opinion on an item in this round."""
    columns = (ItemRow.first_reviewer, ItemRow.second_reviewer)
    return [or_(column.is_(None), column != reviewer) for column in columns]


def _apply(
    session: Session,
    row: ItemRow,
    change: Change,
    write: Write,
    decision: Decision | None = None,
    opinion: Opinion | None = None,
) -> ReviewItem:
    before = status_of(row)
    after = advance(before, change, write.now, row.id)
    if change.action in {Action.OPINE, Action.DECIDE}:
        _check_unchanged(before, row.id, decision, opinion)
    if opinion is not None:
        session.execute(insert(OpinionRow).values(**opinion_columns(opinion)))
    if decision is not None:
        session.execute(
            insert(DecisionRow).values(
                id=decision.id,
                item=decision.item,
                round=decision.round,
                reviewer=decision.reviewer,
                at=in_utc(decision.at),
                verdict=decision.verdict.value,
                label=decision.label,
                reason=decision.reason,
                comment=decision.comment,
            )
        )
        keep_findings(session, row.id, row.use_case, row.added, LABEL, decision.label)
    set_status(session, row.id, before, after)
    keep_audit(session, row.id, write, change.action.value, before.state.value, after, change.details())
    store_response(session, write, row.id, {"status": status_to_answer(after)})
    session.expire(row)
    return read_item(session, row.id)


def _check_unchanged(before: Status, item: str, decision: Decision | None, opinion: Opinion | None) -> None:
    """Check that the item has not changed since the answer was made.

    Raises:
        WrongState: The item was reopened, or got another opinion, after the answer was made.
    """
    made = opinion or decision
    if made is None or made.item != item:
        raise ValueError("an answer needs an opinion or a decision on its item")
    if made.round != before.round:
        raise WrongState(f"item {item}: was reopened meanwhile; look at it again")
    if (opinion.number - 1 if opinion else 0) != len(before.reviewers):
        raise WrongState(f"item {item}: got another opinion meanwhile; send yours again")


def export(session: Session, use_case: str, write: Write, compared: ComparedWith | None = None) -> DataVersion | None:
    """See `ReviewStore.export`."""
    if (row := answered(session, write)) is not None:
        return version_of(session.get_one(VersionRow, (use_case, row.answer["version"])))
    # One export of a use case runs at a time. Intake only refers to the row, so it continues.
    locked = select(UseCaseRow).where(UseCaseRow.name == use_case).with_for_update(key_share=True)
    if session.scalar(locked) is None:
        read_use_case(session, use_case)
    rows = _exportable(session, use_case, compared)
    if not rows:
        return None
    newest = session.scalar(select(func.max(VersionRow.number)).where(VersionRow.use_case == use_case))
    version = DataVersion(use_case, (newest or 0) + 1, in_utc(write.now), write.actor.name, len(rows))
    session.execute(
        insert(VersionRow).values(
            use_case=use_case,
            number=version.number,
            at=version.at,
            actor=version.by,
            num_items=version.num_items,
        )
    )
    _export_rows(session, rows, version, write)
    store_response(session, write, None, {"version": version.number})
    return version


def _exportable(session: Session, use_case: str, compared: ComparedWith | None) -> Sequence[ItemRow]:
    wanted = [ItemRow.use_case == use_case, labelled(), ~held_out()]
    if compared:
        wanted.append(is_compared(compared))
    return session.scalars(select(ItemRow).where(*wanted).order_by(ItemRow.id).with_for_update()).all()


def _export_rows(session: Session, rows: Sequence[ItemRow], version: DataVersion, write: Write) -> None:
    change = Change(Action.EXPORT, write.actor, version=version.number)
    of_this_round = and_(ItemRow.id == DecisionRow.item, ItemRow.round == DecisionRow.round)
    decisions = session.execute(
        select(DecisionRow.item, DecisionRow.id)
        .join(ItemRow, of_this_round)
        .where(ItemRow.use_case == version.use_case, ItemRow.state == State.DECIDED.value)
    )
    decided = dict(decisions.tuples().all())
    for row in rows:
        before = status_of(row)
        after = advance(before, change, write.now, row.id)
        set_status(session, row.id, before, after)
        keep_audit(session, row.id, write, change.action.value, before.state.value, after, change.details())
    members = [{"decision": decided[row.id], "use_case": version.use_case, "version": version.number} for row in rows]
    session.execute(insert(MemberRow), members)
