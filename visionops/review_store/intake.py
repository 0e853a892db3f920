"""Add images: announce them, and register them with their item after the caller stored them. One transaction each."""

from __future__ import annotations

import dataclasses
import math
import secrets
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import and_, delete, insert, select, true
from sqlalchemy.orm import Session

from visionops.review.checks import in_utc
from visionops.review.items import Submission
from visionops.review.likeness import Compared
from visionops.review.ports import SubmissionResult, Write
from visionops.review.states import NEW
from visionops.review_store.likeness import keep_likeness
from visionops.review_store.models import ImageRow, ItemRow, SubmissionRow
from visionops.review_store.reading import read_item, read_use_case
from visionops.review_store.rows import status_columns, status_to_answer, submission_columns
from visionops.review_store.search_models import MODEL
from visionops.review_store.searching import keep_findings
from visionops.review_store.write_models import ArrivalRow
from visionops.review_store.writes import answered, as_it_was, count_rows, keep_audit, store_response

__all__ = ["add", "added_before", "forget", "reserve"]


def added_before(session: Session, write: Write) -> SubmissionResult | None:
    """See `ReviewStore.added`."""
    if (row := answered(session, write)) is None:
        return None
    return SubmissionResult(as_it_was(session, row), row.answer["is_new"])


def reserve(session: Session, sha256: str, now: datetime) -> str | None:
    """See `ReviewStore.reserve`."""
    if session.get(ImageRow, sha256) is not None:
        return None
    row = session.get(ArrivalRow, sha256, with_for_update=True)
    if row is not None:
        row.at = max(row.at, in_utc(now))
        return row.token
    token = secrets.token_hex(16)
    session.execute(insert(ArrivalRow).values(sha256=sha256, token=token, at=in_utc(now)))
    return token


def add(
    session: Session, submission: Submission, token: str | None, write: Write, compared: Compared | None
) -> SubmissionResult | None:
    """See `ReviewStore.add`."""
    if (known := added_before(session, write)) is not None:
        return known
    if not _keep_image(session, submission, token):
        return None
    read_use_case(session, submission.use_case)
    row = session.get(ItemRow, submission.item, with_for_update=True)
    is_new = row is None
    if row is None:
        _insert_item(session, submission, write)
    else:
        _add_reasons(session, row, submission)
    session.execute(insert(SubmissionRow).values(is_first=is_new, **submission_columns(submission, write)))
    status = read_item(session, submission.item).status
    store_response(session, write, submission.item, {"status": status_to_answer(status), "is_new": is_new})
    if compared is not None:
        # Done last, because it blocks every other image of the use case until this transaction ends.
        keep_likeness(session, submission.use_case, submission.item, submission.image.sha256, compared)
    return SubmissionResult(read_item(session, submission.item), is_new)


def _add_reasons(session: Session, row: ItemRow, submission: Submission) -> None:
    """Raise the priority of an existing item that a person reported."""
    first = select(SubmissionRow.reasons).where(SubmissionRow.item == row.id, SubmissionRow.is_first == true())
    reasons = row.reasons if row.reasons is not None else session.scalars(first).one()
    kinds = {reason["kind"] for reason in reasons}
    if new := [dataclasses.asdict(reason) for reason in submission.reasons if reason.kind not in kinds]:
        row.reasons = [*reasons, *new]
        row.priority = math.fsum(reason["value"] for reason in row.reasons)


def _keep_image(session: Session, submission: Submission, token: str | None) -> bool:
    """Register an image that is durable now; return False where a sweep removed it meanwhile."""
    image = submission.image
    if _is_known(session, image.sha256):
        return True
    mine = and_(ArrivalRow.sha256 == image.sha256, ArrivalRow.token == (token or ""))
    if not count_rows(session, delete(ArrivalRow).where(mine)):
        return _is_known(session, image.sha256)  # another intake of the same image may have been faster
    session.execute(
        insert(ImageRow).values(
            sha256=image.sha256,
            num_bytes=image.num_bytes,
            width=image.width,
            height=image.height,
            format=image.format,
        )
    )
    return True


def _insert_item(session: Session, submission: Submission, write: Write) -> None:
    session.execute(
        insert(ItemRow).values(
            id=submission.item,
            use_case=submission.use_case,
            sha256=submission.image.sha256,
            added=in_utc(write.now),
            priority=submission.priority,
            **status_columns(NEW),
        )
    )
    if submission.predicted is not None:
        answer = submission.predicted.answer
        keep_findings(session, submission.item, submission.use_case, in_utc(write.now), MODEL, answer)
    details = {"origin": submission.origin.value, "reference": submission.reference}
    keep_audit(session, submission.item, write, "add", "", NEW, details)


def forget(session: Session, sha256: str, before: datetime, remove: Callable[[], None]) -> bool:
    """See `ReviewStore.forget`."""
    row = session.get(ArrivalRow, sha256, with_for_update=True)
    if row is None:
        # Blocks an announcement of the same image until this transaction ends.
        session.execute(insert(ArrivalRow).values(sha256=sha256, token="", at=in_utc(before)))
    elif row.at >= in_utc(before):
        return False
    is_known = _is_known(session, sha256)
    if not is_known:
        remove()
    session.execute(delete(ArrivalRow).where(ArrivalRow.sha256 == sha256))
    return not is_known


def _is_known(session: Session, sha256: str) -> bool:
    return session.scalar(select(ImageRow.sha256).where(ImageRow.sha256 == sha256)) is not None
