"""Convert between rows and domain types."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from visionops.review.checks import in_utc
from visionops.review.items import (
    AuditRow,
    DataVersion,
    Decision,
    ImageFacts,
    Opinion,
    Origin,
    Predicted,
    QueuePlace,
    Reason,
    ReviewItem,
    Submission,
    UseCase,
)
from visionops.review.likeness import Likeness
from visionops.review.ports import Write
from visionops.review.states import State, Status, Verdict
from visionops.review_store.likeness_models import LikenessRow
from visionops.review_store.models import (
    AuditEntry,
    DecisionRow,
    ImageRow,
    ItemRow,
    OpinionRow,
    SubmissionRow,
    UseCaseRow,
    VersionRow,
)
from visionops.tasks.labelling import LabelScheme

__all__ = [
    "audit_of",
    "decision_of",
    "item_of",
    "likeness_columns",
    "likeness_of",
    "opinion_columns",
    "opinion_of",
    "placed_columns",
    "status_columns",
    "status_from_answer",
    "status_of",
    "status_to_answer",
    "submission_columns",
    "submission_of",
    "use_case_of",
    "version_of",
]


def use_case_of(row: UseCaseRow) -> UseCase:
    """Return a use case."""
    return UseCase(row.name, row.task, LabelScheme.model_validate(row.scheme))


def status_of(row: ItemRow) -> Status:
    """Return the changing part of an item."""
    return Status(
        state=State(row.state),
        round=row.round,
        revision=row.revision,
        holder=row.holder,
        lease_until=row.lease_until,
        verdict=None if row.verdict is None else Verdict(row.verdict),
        version=row.version,
        reviewers=tuple(name for name in (row.first_reviewer, row.second_reviewer) if name is not None),
    )


def status_columns(status: Status) -> dict[str, Any]:
    """Return the columns of `ItemRow` that hold a status."""
    found = _plain(status)
    del found["reviewers"]
    first, second, *_ = (*status.reviewers, None, None)
    return {**found, "first_reviewer": first, "second_reviewer": second}


def _plain(status: Status) -> dict[str, Any]:
    found = {field.name: getattr(status, field.name) for field in dataclasses.fields(status)}
    return {**found, "state": status.state.value, "verdict": status.verdict and status.verdict.value}


def status_to_answer(status: Status) -> dict[str, Any]:
    """Return a status as JSON, for the answer to a write."""
    return {**_plain(status), "lease_until": status.lease_until and in_utc(status.lease_until).isoformat()}


def status_from_answer(answer: dict[str, Any]) -> Status:
    """Return what `status_to_answer` wrote."""
    until = answer["lease_until"] and datetime.fromisoformat(answer["lease_until"])
    verdict = answer["verdict"] and Verdict(answer["verdict"])
    # Answers of the first schema have no reviewers.
    known = {**answer, "state": State(answer["state"]), "reviewers": tuple(answer.get("reviewers", ()))}
    return Status(**{**known, "verdict": verdict, "lease_until": until})


def submission_of(row: SubmissionRow, item: ItemRow, image: ImageRow) -> Submission:
    """Return an arrival."""
    return Submission(
        use_case=item.use_case,
        image=ImageFacts(image.sha256, image.num_bytes, image.width, image.height, image.format),
        origin=Origin(row.origin),
        reference=row.reference,
        name=row.name,
        comment=row.comment,
        proposed=row.proposed,
        predicted=_predicted(row),
        reasons=_reasons(row.reasons),
    )


def submission_columns(submission: Submission, write: Write) -> dict[str, Any]:
    """Return the columns of `SubmissionRow`, except ``is_first``."""
    predicted = submission.predicted
    return {
        "item": submission.item,
        "at": in_utc(write.now),
        "actor": write.actor.name,
        "origin": submission.origin.value,
        "reference": submission.reference,
        "name": submission.name,
        "comment": submission.comment,
        "proposed": submission.proposed,
        "model": predicted and predicted.model,
        "model_version": predicted and predicted.version,
        "answer": predicted and predicted.answer,
        "reasons": [dataclasses.asdict(reason) for reason in submission.reasons],
    }


def likeness_of(row: LikenessRow) -> Likeness:
    """Return what an item resembles."""
    return Likeness(**{field.name: getattr(row, field.name) for field in dataclasses.fields(Likeness)})


def likeness_columns(likeness: Likeness) -> dict[str, Any]:
    """Return the columns of `LikenessRow`, except ``item``."""
    return dataclasses.asdict(likeness)


def item_of(item: ItemRow, first: SubmissionRow, image: ImageRow, likeness: LikenessRow | None) -> ReviewItem:
    """Return an item."""
    arrival = submission_of(first, item, image)
    return ReviewItem(
        id=item.id,
        first=arrival,
        added=item.added,
        status=status_of(item),
        reasons=arrival.reasons if item.reasons is None else _reasons(item.reasons),
        predicted=_predicted(item) or arrival.predicted,
        likeness=None if likeness is None else likeness_of(likeness),
    )


def placed_columns(placed: QueuePlace) -> dict[str, Any]:
    """Return the columns of `ItemRow` that hold a place in the queue."""
    found: dict[str, Any] = {
        "priority": placed.priority,
        "reasons": [dataclasses.asdict(reason) for reason in placed.reasons],
    }
    if (predicted := placed.predicted) is not None:
        found |= {"model": predicted.model, "model_version": predicted.version, "answer": predicted.answer}
    return found


def _predicted(row: SubmissionRow | ItemRow) -> Predicted | None:
    if row.model is None or row.model_version is None or row.answer is None:
        return None
    return Predicted(row.model, row.model_version, row.answer)


def _reasons(column: list[Any]) -> tuple[Reason, ...]:
    return tuple(Reason(**reason) for reason in column)


def decision_of(row: DecisionRow) -> Decision:
    """Return a decision."""
    return Decision(
        id=row.id,
        item=row.item,
        round=row.round,
        reviewer=row.reviewer,
        at=row.at,
        verdict=Verdict(row.verdict),
        label=row.label,
        reason=row.reason,
        comment=row.comment,
    )


def opinion_of(row: OpinionRow) -> Opinion:
    """Return an opinion."""
    return Opinion(
        item=row.item,
        round=row.round,
        number=row.number,
        reviewer=row.reviewer,
        at=row.at,
        verdict=Verdict(row.verdict),
        label=row.label,
        reason=row.reason,
        comment=row.comment,
    )


def opinion_columns(opinion: Opinion) -> dict[str, Any]:
    """Return the columns of `OpinionRow`."""
    found = {field.name: getattr(opinion, field.name) for field in dataclasses.fields(opinion)}
    return {**found, "at": in_utc(opinion.at), "verdict": opinion.verdict.value}


def audit_of(row: AuditEntry) -> AuditRow:
    """Return a change of an item."""
    return AuditRow(row.item, row.revision, row.at, row.actor, row.action, row.before, row.after, row.details)


def version_of(row: VersionRow) -> DataVersion:
    """Return a data version."""
    return DataVersion(row.use_case, row.number, row.at, row.actor, row.num_items)
