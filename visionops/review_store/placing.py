"""Update the places of pending items in the queue, all in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from visionops.review.errors import Invalid, NotFound
from visionops.review.items import QueuePlace, ReviewItem
from visionops.review.ports import Prioritized, Write
from visionops.review.states import Action, Change, State, advance
from visionops.review_store.models import ItemRow
from visionops.review_store.reading import items_with, read_use_case
from visionops.review_store.rows import item_of, placed_columns, status_columns, status_of
from visionops.review_store.search_models import MODEL
from visionops.review_store.searching import keep_findings
from visionops.review_store.writes import answered, keep_audit, store_response

__all__ = ["prioritize"]

_BLOCK = 500
"""Items read at once, because databases limit the parameters of a statement."""


def prioritize(session: Session, use_case: str, placed: Sequence[QueuePlace], write: Write) -> Prioritized:
    """See `ReviewStore.prioritize`."""
    if (row := answered(session, write)) is not None:
        return Prioritized(**row.answer)
    read_use_case(session, use_case)
    by_id = {one.item: one for one in placed}
    if len(by_id) < len(placed):
        raise Invalid("items: one occurs twice")
    counts = {"changed": 0, "same": 0, "left": 0}
    ids = sorted(by_id)  # Lock rows in one order, so that two such transactions cannot block each other.
    for at in range(0, len(ids), _BLOCK):
        _place_some(session, use_case, {name: by_id[name] for name in ids[at : at + _BLOCK]}, write, counts)
    store_response(session, write, None, dict(counts))
    return Prioritized(**counts)


def _place_some(
    session: Session, use_case: str, placed: Mapping[str, QueuePlace], write: Write, counts: dict[str, int]
) -> None:
    locked = select(ItemRow).where(ItemRow.id.in_(placed), ItemRow.use_case == use_case).order_by(ItemRow.id)
    rows = session.scalars(locked.with_for_update()).all()
    if missing := sorted(placed.keys() - {row.id for row in rows}):
        raise NotFound(f"item {missing[0]}: does not exist in {use_case}; run `visionops review list` to see all items")
    items = {row[0].id: item_of(*row) for row in session.execute(items_with().where(ItemRow.id.in_(placed)))}
    for row in rows:
        one = placed[row.id]
        if row.state != State.PENDING.value:
            counts["left"] += 1
        elif _is_same(items[row.id], one):
            counts["same"] += 1
        else:
            _place(session, row, one, write)
            counts["changed"] += 1


def _is_same(item: ReviewItem, placed: QueuePlace) -> bool:
    is_predicted = placed.predicted is None or placed.predicted == item.predicted
    return item.reasons == placed.reasons and is_predicted


def _place(session: Session, row: ItemRow, placed: QueuePlace, write: Write) -> None:
    before = status_of(row)
    after = advance(before, Change(Action.PRIORITIZE, write.actor), write.now, row.id)
    values = {**status_columns(after), **placed_columns(placed)}
    session.execute(
        update(ItemRow).where(ItemRow.id == row.id).values(**values).execution_options(synchronize_session=False)
    )
    if placed.predicted is not None:
        keep_findings(session, row.id, row.use_case, row.added, MODEL, placed.predicted.answer)
    keep_audit(session, row.id, write, Action.PRIORITIZE.value, before.state.value, after, _details(placed))


def _details(placed: QueuePlace) -> dict[str, Any]:
    found: dict[str, Any] = {"priority": round(placed.priority, 6)}
    if placed.predicted is not None:
        found |= {"model": placed.predicted.model, "model_version": placed.predicted.version}
    return found
