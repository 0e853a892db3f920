"""Read the review database. Every function is called inside one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, exists, func, or_, select, true
from sqlalchemy.orm import Session

from visionops.review.errors import Invalid, NotFound
from visionops.review.items import DataVersion, Decision, Opinion, ReviewItem, UseCase
from visionops.review.likeness import HELD_OUT, ComparedWith
from visionops.review.ports import ItemFilter, Stats
from visionops.review.states import State, Verdict
from visionops.review_store.likeness_models import LikenessRow
from visionops.review_store.models import (
    DecisionRow,
    ImageRow,
    ItemRow,
    MemberRow,
    OpinionRow,
    SubmissionRow,
    UseCaseRow,
    VersionRow,
)
from visionops.review_store.rows import decision_of, item_of, opinion_of, use_case_of, version_of

__all__ = [
    "MOST_LISTED",
    "held_out",
    "is_compared",
    "items_with",
    "labelled",
    "read_item",
    "read_items",
    "read_opinions",
    "read_second_share",
    "read_stats",
    "read_use_case",
    "read_version",
    "read_versions",
]

MOST_LISTED = 1000
"""Items on a page."""

_Parts = Select[tuple[ItemRow, SubmissionRow, ImageRow, LikenessRow]]
"""Last element may be None, which SQLAlchemy's types do not show for an outer join."""


def items_with() -> _Parts:
    """Return the query of items with their first arrival, image and likeness."""
    return (
        select(ItemRow, SubmissionRow, ImageRow, LikenessRow)
        .join(SubmissionRow, and_(SubmissionRow.item == ItemRow.id, SubmissionRow.is_first == true()))
        .join(ImageRow, ImageRow.sha256 == ItemRow.sha256)
        .outerjoin(LikenessRow, LikenessRow.item == ItemRow.id)
    )


def held_out() -> ColumnElement[bool]:
    """Return the condition that an `ItemRow` is kept out of training."""
    return exists().where(
        LikenessRow.item == ItemRow.id,
        LikenessRow.seen_in == HELD_OUT,
        LikenessRow.nearest.is_distinct_from(ItemRow.sha256),  # an image of the data set keeps its split
    )


def labelled() -> ColumnElement[bool]:
    """Return the condition that an `ItemRow` is decided with a label, and in no data version yet."""
    return and_(ItemRow.state == State.DECIDED.value, ItemRow.verdict != Verdict.REJECT.value)


def is_compared(compared: ComparedWith) -> ColumnElement[bool]:
    """Return the condition that an `ItemRow` was compared with at least this revision of the data set."""
    return exists().where(
        LikenessRow.item == ItemRow.id,
        LikenessRow.kind == compared.kind,
        LikenessRow.checked >= compared.revision,
    )


def read_use_case(session: Session, name: str) -> UseCase:
    """Return a use case.

    Raises:
        NotFound: It is unknown.
    """
    row = session.get(UseCaseRow, name)
    if row is None:
        raise NotFound(f"use case {name}: is not in review; import images or set its classes first")
    return use_case_of(row)


def read_second_share(session: Session, name: str) -> float:
    """Return the share of a use case's items that need two opinions.

    Raises:
        NotFound: It is unknown.
    """
    read_use_case(session, name)
    return session.scalars(select(UseCaseRow.second_share).where(UseCaseRow.name == name)).one()


def read_opinions(session: Session, use_case: str) -> list[Opinion]:
    """Return the opinions on all items of a use case, by item, round and number.

    Raises:
        NotFound: It is unknown.
    """
    read_use_case(session, use_case)
    query = (
        select(OpinionRow)
        .join(ItemRow, ItemRow.id == OpinionRow.item)
        .where(ItemRow.use_case == use_case)
        .order_by(OpinionRow.item, OpinionRow.round, OpinionRow.number)
    )
    return [opinion_of(row) for row in session.scalars(query)]


def read_item(session: Session, item: str) -> ReviewItem:
    """Return an item.

    Raises:
        NotFound: No item has this id.
    """
    found = session.execute(items_with().where(ItemRow.id == item)).one_or_none()
    if found is None:
        raise NotFound(f"item {item}: does not exist; run `visionops review list` to see all items")
    return item_of(*found)


def read_items(session: Session, wanted: ItemFilter) -> list[ReviewItem]:
    """Return a page of items, newest first.

    Raises:
        NotFound: There is no item `ItemFilter.after`.
        Invalid: The page is empty or longer than `MOST_LISTED`.
    """
    if not 1 <= wanted.limit <= MOST_LISTED:
        raise Invalid(f"limit: {wanted.limit} is not from 1 to {MOST_LISTED}")
    query = items_with()
    for column, value in (
        (ItemRow.use_case, wanted.use_case),
        (ItemRow.sha256, wanted.sha256),
        (SubmissionRow.origin, wanted.origin and wanted.origin.value),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.states:
        query = query.where(ItemRow.state.in_(sorted(state.value for state in wanted.states)))
    if wanted.reference is not None:
        named = select(SubmissionRow.item).where(SubmissionRow.reference == wanted.reference)
        query = query.where(ItemRow.id.in_(named))
    if wanted.after is not None:
        last = session.get(ItemRow, wanted.after)
        if last is None:
            raise NotFound(f"item {wanted.after}: does not exist; list from the first page")
        query = query.where(or_(ItemRow.added < last.added, and_(ItemRow.added == last.added, ItemRow.id < last.id)))
    query = query.order_by(ItemRow.added.desc(), ItemRow.id.desc()).limit(wanted.limit)
    return _items(session.execute(query).all())


def _items(rows: Sequence[Row[Any]]) -> list[ReviewItem]:
    return [item_of(*row) for row in rows]


def read_version(session: Session, use_case: str, number: int) -> list[tuple[ReviewItem, Decision]]:
    """Return the content of a data version, by image.

    Raises:
        NotFound: The version does not exist.
    """
    if session.get(VersionRow, (use_case, number)) is None:
        raise NotFound(f"use case {use_case}: has no data version {number}")
    query = (
        items_with()
        .add_columns(DecisionRow)
        .join(DecisionRow, DecisionRow.item == ItemRow.id)
        .join(MemberRow, MemberRow.decision == DecisionRow.id)
        .where(MemberRow.use_case == use_case, MemberRow.version == number)
        .order_by(ItemRow.sha256)
    )
    return [(item_of(*row[:4]), decision_of(row[4])) for row in session.execute(query)]


def read_versions(session: Session, use_case: str) -> list[DataVersion]:
    """Return the data versions of a use case, oldest first."""
    query = select(VersionRow).where(VersionRow.use_case == use_case).order_by(VersionRow.number)
    return [version_of(row) for row in session.scalars(query)]


def read_stats(session: Session, use_case: str) -> Stats:
    """Return the statistics of a use case's queue.

    Raises:
        NotFound: It is unknown.
    """
    read_use_case(session, use_case)
    of_case = ItemRow.use_case == use_case
    counts: dict[str, int] = dict(_pairs(session, select(ItemRow.state, func.count()).where(of_case), ItemRow.state))
    judged = select(ItemRow.verdict, func.count()).where(of_case, ItemRow.verdict.is_not(None))
    verdicts = dict(_pairs(session, judged, ItemRow.verdict))
    by_reviewer = (
        select(DecisionRow.reviewer, func.count()).join(ItemRow, ItemRow.id == DecisionRow.item).where(of_case)
    )
    to_export = select(func.count()).where(of_case, labelled())
    oldest: datetime | None = session.scalar(
        select(func.min(ItemRow.added)).where(of_case, ItemRow.state == State.PENDING.value)
    )
    open_ = select(func.count()).where(of_case, ItemRow.state.in_([State.PENDING.value, State.CLAIMED.value]))
    has_first, has_second = ItemRow.first_reviewer.is_not(None), ItemRow.second_reviewer.is_not(None)
    return Stats(
        states={state.value: counts.get(state.value, 0) for state in State},
        verdicts={verdict.value: verdicts.get(verdict.value, 0) for verdict in Verdict},
        reviewers=dict(_pairs(session, by_reviewer, DecisionRow.reviewer)),
        unused=session.scalar(to_export.where(~held_out())) or 0,
        held_out=session.scalar(to_export.where(held_out())) or 0,
        oldest_pending=oldest,
        versions=session.scalar(select(func.max(VersionRow.number)).where(VersionRow.use_case == use_case)) or 0,
        second=session.scalar(open_.where(has_first, ~has_second)) or 0,
        third=session.scalar(open_.where(has_second)) or 0,
    )


def _pairs(session: Session, query: Select[Any], column: Any) -> list[tuple[str, int]]:
    return [(name, count) for name, count in session.execute(query.group_by(column).order_by(column))]
