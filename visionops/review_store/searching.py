"""Search items. Each function is called inside one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, CompoundSelect, Select, delete, exists, func, insert, or_, select, true, union_all
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.findings import findings_in
from visionops.review.searching import MOST_COUNTED, MOST_EXPORTED, PAGE, ClassSource, Found, SavedSearch, Search
from visionops.review.states import Verdict
from visionops.review_store.models import DecisionRow, ItemRow, SubmissionRow
from visionops.review_store.reading import items_with
from visionops.review_store.rows import item_of
from visionops.review_store.search_models import LABEL, MODEL, FindingRow, SavedSearchRow

__all__ = [
    "drop_search",
    "keep_findings",
    "keep_search",
    "read_classes",
    "read_found",
    "read_found_ids",
    "read_searches",
]

_FEW = 2000
"""Maximum number of items for which a condition is evaluated first."""


def read_found(session: Session, search: Search) -> Found:
    """See `ReviewStore.search`."""
    most = max(MOST_COUNTED, search.offset + PAGE)
    ids = _matching(session, search, most + 1)
    shown = ids[search.offset : search.offset + PAGE]
    rows = {row[0].id: item_of(*row) for row in session.execute(items_with().where(ItemRow.id.in_(shown)))}
    labels = select(DecisionRow.item, DecisionRow.label).join(ItemRow, ItemRow.id == DecisionRow.item)
    labels = labels.where(
        DecisionRow.item.in_(shown), DecisionRow.round == ItemRow.round, DecisionRow.verdict != Verdict.REJECT.value
    )
    found = {item: label for item, label in session.execute(labels) if label is not None}
    return Found(tuple(rows[one] for one in shown), min(len(ids), most), len(ids) > most, found)


def read_found_ids(session: Session, search: Search) -> list[str]:
    """See `ReviewStore.search_ids`."""
    return _matching(session, search, MOST_EXPORTED)


def read_classes(session: Session, use_case: str) -> list[str]:
    """See `ReviewStore.classes_found`."""
    # Reads one index entry for each class, however many items have it.
    found: list[str] = []
    while (name := session.scalar(_next_class(use_case, found[-1] if found else ""))) is not None:
        found.append(name)
    return found


def _next_class(use_case: str, last: str) -> Select[Any]:
    return select(func.min(FindingRow.name)).where(FindingRow.use_case == use_case, FindingRow.name > last)


def keep_findings(
    session: Session, item: str, use_case: str, added: datetime, said_by: str, said: Mapping[str, Any] | None
) -> None:
    """Replace the classes that a model, or a person, has given an item."""
    session.execute(delete(FindingRow).where(FindingRow.item == item, FindingRow.said_by == said_by))
    common = {"item": item, "use_case": use_case, "added": added, "said_by": said_by}
    if rows := [{**common, "name": name, "confidence": value} for name, value in findings_in(said).items()]:
        session.execute(insert(FindingRow), rows)


def _matching(session: Session, search: Search, limit: int) -> list[str]:
    """Return matching ids, newest first, or in the order of `Search.items`.

    A condition that few items meet is evaluated first, and the others only on these items. Where many items meet every
    condition, items are tested one by one, newest first, until there are enough. Both databases choose badly between
    these two plans.
    """
    conditions = _of_item(search)
    few: set[str] | None = None if search.items is None else set(search.items)
    # Lots and model versions are close together in time, so most unwanted items fail at the first condition.
    for one in (*_of_arrivals(search), *_of_findings(search), *_of_decisions(search), *_of_text(search)):
        found = set(session.scalars(one.ids.limit(_FEW + 1)))
        if len(found) <= _FEW:
            few = found if few is None else few & found
        else:
            conditions.append(one.holds)
    if few is not None and len(few) <= _FEW:
        conditions.append(ItemRow.id.in_(few))
    query = select(ItemRow.id).where(*conditions)
    if search.items is not None:
        matching = set(session.scalars(query))
        return [one for one in search.items if one in matching][:limit]
    return list(session.scalars(query.order_by(ItemRow.added.desc(), ItemRow.id.desc()).limit(limit)))


class _Condition(NamedTuple):
    """A condition on another table than the items."""

    ids: Select[tuple[str]] | CompoundSelect[tuple[str]]
    """Ids of the items that meet it, unordered."""
    holds: ColumnElement[bool]
    """Condition on an `ItemRow`."""


def _of_item(search: Search) -> list[ColumnElement[bool]]:
    found = []
    if search.use_case is not None:
        found.append(ItemRow.use_case == search.use_case)
    start, end = search.moments
    if start is not None:
        found.append(ItemRow.added >= start)
    if end is not None:
        found.append(ItemRow.added < end)
    if search.states:
        found.append(ItemRow.state.in_([one.value for one in search.states]))
    return found


def _of_findings(search: Search) -> Iterator[_Condition]:
    low, high = search.confidence_from, search.confidence_to
    has_range = low is not None or high is not None
    said = [MODEL, LABEL] if search.said_by is ClassSource.ANY else [search.said_by.value]
    # A label has no confidence. All sources are listed, because they precede the class in the table's key.
    where: list[ColumnElement[bool]] = [FindingRow.said_by.in_([MODEL] if has_range else said)]
    if low is not None:
        where.append(FindingRow.confidence >= low)
    if high is not None:
        where.append(FindingRow.confidence <= high)
    named = [FindingRow.name == name for name in search.names]
    for one in named or ([true()] if has_range else []):
        ids = select(FindingRow.item).where(one, *where)
        if search.use_case is not None:
            ids = ids.where(FindingRow.use_case == search.use_case)
        yield _Condition(ids, exists().where(FindingRow.item == ItemRow.id, one, *where))


def _of_arrivals(search: Search) -> Iterator[_Condition]:
    if version := search.model_version:
        arrived, placed = SubmissionRow.model_version == version, ItemRow.model_version == version
        both = union_all(select(SubmissionRow.item).where(arrived), select(ItemRow.id).where(placed))
        yield _Condition(both, or_(placed, exists().where(SubmissionRow.item == ItemRow.id, arrived)))
    where: list[ColumnElement[bool]] = []
    if search.reference:
        begins = search.reference.removesuffix("*")
        is_whole = begins == search.reference
        column = SubmissionRow.reference
        where.append(column == begins if is_whole else column.startswith(begins, autoescape=True))
    if search.origin is not None:
        where.append(SubmissionRow.origin == search.origin.value)
    for one in where:
        ids = select(SubmissionRow.item).where(one)
        yield _Condition(ids, exists().where(SubmissionRow.item == ItemRow.id, one))


def _of_decisions(search: Search) -> Iterator[_Condition]:
    if search.verdict is not None:
        one = DecisionRow.verdict == search.verdict.value
        yield _Condition(select(DecisionRow.item).where(one), exists().where(DecisionRow.item == ItemRow.id, one))


def _of_text(search: Search) -> Iterator[_Condition]:
    if not (words := search.text.strip()):
        return
    columns = (SubmissionRow.comment, SubmissionRow.name), (DecisionRow.comment, DecisionRow.reason)
    arrived, decided = (or_(*(column.icontains(words, autoescape=True) for column in pair)) for pair in columns)
    ids = union_all(select(SubmissionRow.item).where(arrived), select(DecisionRow.item).where(decided))
    of_item = exists().where(SubmissionRow.item == ItemRow.id, arrived)
    yield _Condition(ids, or_(of_item, exists().where(DecisionRow.item == ItemRow.id, decided)))


def read_searches(session: Session, owner: str) -> list[SavedSearch]:
    """See `ReviewStore.searches`."""
    query = select(SavedSearchRow).where(SavedSearchRow.owner == owner).order_by(SavedSearchRow.name)
    return [SavedSearch(row.owner, row.name, row.query) for row in session.scalars(query)]


def keep_search(session: Session, saved: SavedSearch, now: datetime) -> None:
    """See `ReviewStore.keep_search`."""
    row = session.get(SavedSearchRow, (saved.owner, saved.name), with_for_update=True)
    if row is None:
        session.add(SavedSearchRow(owner=saved.owner, name=saved.name, query=saved.query, at=in_utc(now)))
    else:
        row.query, row.at = saved.query, in_utc(now)


def drop_search(session: Session, owner: str, name: str) -> None:
    """See `ReviewStore.drop_search`."""
    session.execute(delete(SavedSearchRow).where(SavedSearchRow.owner == owner, SavedSearchRow.name == name))
