"""Push items of the queue to an annotation tool, and pull back what people decided there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from visionops.errors import LabelError, VisionOpsError
from visionops.review.annotation.same import same_label
from visionops.review.annotation.tool import Annotation, AnnotationTool, ticket_of
from visionops.review.checks import MOST_COMMENT, digest_of
from visionops.review.errors import Conflict, Unavailable
from visionops.review.items import ReviewItem, UseCase
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Review
from visionops.review.states import Actor, State, Verdict
from visionops.tasks.spec import task_for

__all__ = ["PullResult", "PushResult", "pull", "push"]

_BATCH = 25
"""Items that are pushed together. After a crash between two batches, the items already pushed are `present`."""
_PAGE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class PushResult:
    """Result of pushing the pending items of a use case."""

    new: int
    present: int
    """Items that were in the tool before."""
    waiting: int
    """Items beyond the limit, left for a later push."""


@dataclasses.dataclass(frozen=True, slots=True)
class PullResult:
    """Result of pulling the annotations of a use case."""

    confirmed: int
    corrected: int
    rejected: int
    known: int
    """Annotations that were pulled before, or belong to an earlier round."""
    conflicts: tuple[str, ...]
    """A line for each annotation of an item that is decided or claimed in the review queue."""
    refused: tuple[str, ...]
    """A line for each annotation that cannot become a decision."""


def push(review: Review, tool: AnnotationTool, use_case: str, limit: int | None = None) -> PushResult:
    """Push pending items that the tool does not have, highest priority first.

    Args:
        review: Review that has the items.
        tool: Annotation tool that gets them.
        use_case: Its name.
        limit: Push at most this many.

    Raises:
        NotFound: The use case is unknown.
        Invalid: The tool cannot show the use case, or refuses items.
        Unavailable: The tool, the database or the images cannot be reached.
    """
    case = review.store.use_case(use_case)
    pending = sorted(_pending(review, use_case), key=lambda item: (-item.priority, item.added, item.id))
    present = tool.present(case, [ticket_of(item) for item in pending])
    missing = [item for item in pending if ticket_of(item) not in present]
    chosen = missing[:limit]
    for first in range(0, len(chosen), _BATCH):
        tool.push(case, chosen[first : first + _BATCH], review.images.read)
    return PushResult(len(chosen), len(pending) - len(missing), len(missing) - len(chosen))


def pull(review: Review, tool: AnnotationTool, use_case: str, now: datetime) -> PullResult:
    """Turn annotations into decisions of their authors. Pulling again changes nothing.

    An annotation that equals the prediction confirms it; another label corrects it.

    Args:
        review: Review that gets the decisions.
        tool: Annotation tool that has the annotations.
        use_case: Its name.
        now: Aware.

    Raises:
        NotFound: The use case is unknown.
        Unavailable: The tool or the database cannot be reached. What was pulled so far stays.
    """
    case = review.store.use_case(use_case)
    counts, conflicts, refused = dict.fromkeys((*(v.value for v in Verdict), "known"), 0), [], []
    for annotation in tool.annotations(case):
        try:
            counts[_take(review, case, annotation, now)] += 1
        except Unavailable:
            raise
        except Conflict as error:
            conflicts.append(f"{annotation.reference}: {error}")
        except VisionOpsError as error:
            refused.append(f"{annotation.reference}: {error}")
    return PullResult(
        counts[Verdict.CONFIRM],
        counts[Verdict.CORRECT],
        counts[Verdict.REJECT],
        counts["known"],
        tuple(conflicts),
        tuple(refused),
    )


def _pending(review: Review, use_case: str) -> Iterator[ReviewItem]:
    after = None
    while page := review.store.items(ItemFilter(use_case, (State.PENDING,), limit=_PAGE, after=after)):
        yield from page
        after = page[-1].id


def _take(review: Review, case: UseCase, annotation: Annotation, now: datetime) -> str:
    """Keep an annotation as a decision; return its verdict, or ``known``."""
    ticket, comment = annotation.ticket, annotation.reference[:MOST_COMMENT]
    item = review.store.item(ticket.item)
    if item.use_case != case.name:
        raise LabelError(f"item {item.id}: expected use case {case.name}, got {item.use_case}")
    if item.status.round > ticket.round:
        return "known"
    if item.status.round < ticket.round:
        raise LabelError(
            f"item {item.id}: has no round {ticket.round} in this database; was an earlier backup restored?"
        )
    opinions = (one for one in review.store.opinions(item.id) if one.round == ticket.round)
    if any(one.comment == comment for one in opinions):
        return "known"
    if item.status.state in {State.DECIDED, State.EXPORTED}:
        decided = {one.round: one for one in review.store.decisions(item.id)}[ticket.round]
        if decided.comment == comment:
            return "known"
        raise Conflict(
            f"item {item.id}: {decided.reviewer} decided it at {decided.at:%Y-%m-%d %H:%M} UTC; an admin can reopen it"
        )
    answer, actor = _answer(case, item, annotation, comment), Actor(annotation.reviewer)
    key = digest_of("annotation", ticket.item, ticket.round, comment)
    review.claim(item.id, actor, key=f"{key} claim {now.isoformat()}", now=now)
    review.decide(item.id, answer, actor, key=f"{key} decide", now=now)
    return answer.verdict.value


def _answer(case: UseCase, item: ReviewItem, annotation: Annotation, comment: str) -> Answer:
    if annotation.problem:
        raise LabelError(annotation.problem)
    if annotation.label is None:
        return Answer(Verdict.REJECT, reason=annotation.rejection, comment=comment)
    task, size = task_for(case.task), (item.image.width, item.image.height)
    label = task.check_label(annotation.label, case.scheme, *size)
    predicted = item.predicted and _checked(case, item, task.label_of(item.predicted.answer))
    if predicted and same_label(label, predicted, *size):
        return Answer(Verdict.CONFIRM, comment=comment)
    return Answer(Verdict.CORRECT, label=label, comment=comment)


def _checked(case: UseCase, item: ReviewItem, label: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a predicted label; None where a person could not confirm it."""
    try:
        return task_for(case.task).check_label(label, case.scheme, item.image.width, item.image.height)
    except LabelError:
        return None
