"""Run the review of images: add them, assign them, store decisions, and export data versions.

>>> review = Review(store, images)
>>> added = review.add("steel", data, Arrival(Origin.UPLOAD), Actor("line 3"), key="part-0007", now=now)
>>> item = review.claim_next("steel", Actor("anna"), key="c1", now=now)
>>> review.decide(item.id, Answer(Verdict.CONFIRM), Actor("anna"), key="d1", now=now).status.state
<State.DECIDED: 'decided'>

Every method that writes takes an idempotency key from the client. The same key with the same content is done once and
gets the same answer; with other content it is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from visionops.inference.image import read_header
from visionops.review.checks import check_json, check_name, in_utc
from visionops.review.errors import Invalid, Unavailable, WrongState
from visionops.review.items import (
    DataVersion,
    Decision,
    ImageFacts,
    Opinion,
    Origin,
    Predicted,
    Reason,
    ReviewItem,
    Submission,
    UseCase,
)
from visionops.review.opinions import SeenOpinion, seen_by, settle, wants_second
from visionops.review.ports import ImageStore, ReviewStore, SubmissionResult, Write
from visionops.review.similar import Similar
from visionops.review.states import Action, Actor, Change, Verdict
from visionops.schema import describe_problem, first_error
from visionops.tasks.spec import TaskSpec, task_for

__all__ = ["LEASE", "Answer", "Arrival", "Review"]

LEASE = timedelta(minutes=15)
"""Time until a claim expires unless it is renewed."""
_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """Facts about an arriving image; see `Submission`."""

    origin: Origin
    reference: str = ""
    name: str = ""
    comment: str = ""
    label: Mapping[str, Any] | None = None
    """Label in the task's form."""
    predicted: Predicted | None = None
    reasons: tuple[Reason, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A reviewer's answer."""

    verdict: Verdict
    label: Mapping[str, Any] | None = None
    """Label of a correction, in the task's form."""
    reason: str = ""
    """Reason of a rejection."""
    comment: str = ""


class Review:
    """All operations of a review, with their checks. Safe to call from several threads and processes.

    All methods raise `Unavailable` where the database or the images cannot be reached or written. Repeating the write
    with the same key then completes it, or returns the answer that was lost.
    """

    def __init__(self, store: ReviewStore, images: ImageStore, similar: Similar | None = None) -> None:
        self.store = store
        self.images = images
        self.similar = similar

    def close(self) -> None:
        """Save the caches of the search for similar images."""
        if self.similar:
            self.similar.close()

    def put_use_case(self, use_case: UseCase) -> None:
        """Add a use case, or add classes to it.

        Raises:
            LabelError: The scheme does not fit the task.
            TaskError: The task is unknown, or its labels cannot be reviewed.
            Conflict: It exists with another task, or classes are missing or in another order.
        """
        task_for(use_case.task).check_scheme(use_case.scheme)
        self.store.put_use_case(use_case)

    def set_second_share(self, use_case: str, share: float) -> None:
        """Set the share of items that need two opinions; 0 switches second opinions off.

        Raises:
            Invalid: It is not from 0 to 1.
            NotFound: The use case is unknown.
        """
        if not 0 <= share <= 1:
            raise Invalid(f"share: {share:g} is not from 0 to 1")
        self.store.set_second_share(use_case, share)

    def add(
        self, use_case: str, data: bytes, arrival: Arrival, actor: Actor, *, key: str, now: datetime
    ) -> SubmissionResult:
        """Add an image. When this returns, image and item survive a crash.

        Args:
            data: The encoded image.
            now: Aware.

        Raises:
            ImageError: The bytes are not a usable image.
            LabelError: The label that came with it does not fit the task.
            Invalid: A text, the prediction or the key is not valid.
            NotFound: The use case is unknown.
            KeyReused: The key was used for another write.
        """
        submission = self._submission(use_case, data, arrival)
        content = dataclasses.asdict(submission)
        write = Write.of(key, actor, in_utc(now), "add", content)
        if (known := self.store.added(write)) is not None:
            return known
        sha256 = submission.image.sha256
        compared = self.similar.compare(use_case, sha256, data) if self.similar else None
        for _ in range(_ATTEMPTS):
            token = self.store.reserve(sha256, write.now)
            if token is not None:
                self.images.put(sha256, data)
            if (added := self.store.add(submission, token, write, compared)) is not None:
                return added
        raise Unavailable(f"image {sha256}: was removed by sweeps while it arrived; send it again")

    def claim_next(
        self, use_case: str, actor: Actor, *, key: str, now: datetime, lease: timedelta = LEASE
    ) -> ReviewItem | None:
        """Claim the item to review first; None where no item is pending.

        Raises:
            NotFound: The use case is unknown.
            Invalid: The lease is longer than a day.
        """
        claim = Change(Action.CLAIM, actor, until=in_utc(now) + lease)
        write = Write.of(key, actor, in_utc(now), "claim next", use_case, lease.total_seconds())
        return self.store.claim_next(use_case, claim, write)

    def claim(self, item: str, actor: Actor, *, key: str, now: datetime, lease: timedelta = LEASE) -> ReviewItem:
        """Claim an item. Claiming one's own item again extends its lease.

        Raises:
            NotFound: The item does not exist.
            HeldByAnother: Another reviewer has it.
            WrongState: It is decided.
        """
        return self._lease(Action.CLAIM, item, actor, key, now, lease)

    def renew(self, item: str, actor: Actor, *, key: str, now: datetime, lease: timedelta = LEASE) -> ReviewItem:
        """Extend the lease of one's own claim.

        Raises:
            LeaseExpired: It has ended.
            HeldByAnother: Another reviewer has the item.
            WrongState: It is not claimed.
        """
        return self._lease(Action.RENEW, item, actor, key, now, lease)

    def release(self, item: str, actor: Actor, *, key: str, now: datetime) -> ReviewItem:
        """Release a claimed item without a decision.

        Raises:
            Forbidden: Another reviewer has it, and the actor is not an admin.
            WrongState: It is not claimed.
        """
        change = Change(Action.RELEASE, actor)
        return self.store.change(item, change, Write.of(key, actor, in_utc(now), "release", item))

    def decide(self, item: str, answer: Answer, actor: Actor, *, key: str, now: datetime) -> ReviewItem:
        """Store a reviewer's answer on an item that they have claimed.

        An item that needs another opinion is pending again after it, and its opinions stay hidden (`opinions`).

        Raises:
            LabelError: The label does not fit the task, its classes or the image.
            Invalid: A label is missing or not allowed, or a text is too long.
            LeaseExpired: The lease ended; claim the item again.
            HeldByAnother: Another reviewer has it.
            WrongState: Nobody has claimed it, it is decided, or there is no prediction to confirm.
        """
        now = in_utc(now)
        found = self.store.item(item)
        opinion = Opinion(
            item=item,
            round=found.status.round,
            number=len(found.status.reviewers) + 1,
            reviewer=actor.name,
            at=now,
            verdict=answer.verdict,
            label=self._label(found, answer),
            reason=answer.reason,
            comment=answer.comment,
        )
        given = None if answer.label is None else check_json(answer.label, "label")
        write = Write.of(key, actor, now, "decide", item, answer.verdict, given, answer.reason, answer.comment)
        decision = self._settle(found, opinion)
        if decision is None:
            return self.store.change(item, Change(Action.OPINE, actor), write, opinion=opinion)
        change = Change(Action.DECIDE, actor, verdict=decision.verdict, reason=answer.reason)
        return self.store.change(item, change, write, decision, opinion if found.status.reviewers else None)

    def _settle(self, item: ReviewItem, opinion: Opinion) -> Decision | None:
        """Return the decision that an opinion leads to for the item as read; the store refuses it if that changed."""
        given = len(item.status.reviewers)
        earlier = [one for one in self.store.opinions(item.id) if one.round == opinion.round][:given] if given else []
        agree = task_for(self.store.use_case(item.use_case).task).agree
        return settle(opinion, earlier, agree, is_double=bool(earlier) or self._wants_second(item))

    def _wants_second(self, item: ReviewItem) -> bool:
        if not (share := self.store.second_share(item.use_case)):
            return False
        return wants_second(item.id, share, (r for arrival in self.store.arrivals(item.id) for r in arrival.reasons))

    def opinions(self, item: str, actor: Actor) -> list[SeenOpinion]:
        """Return the opinions on an item that a viewer may see; see `seen_by`.

        Raises:
            NotFound: The item does not exist.
        """
        # Read in this order, so that an opinion given in between stays hidden: the status does not know it yet.
        found = self.store.item(item)
        return seen_by(actor, found, self.store.opinions(item))

    def reopen(self, item: str, reason: str, actor: Actor, *, key: str, now: datetime) -> ReviewItem:
        """Reopen a decided item. The earlier decision stays in its history and in its data version.

        Raises:
            Forbidden: The actor is not an admin.
            WrongState: It is not decided yet.
        """
        change = Change(Action.REOPEN, actor, reason=reason)
        return self.store.change(item, change, Write.of(key, actor, in_utc(now), "reopen", item, reason))

    def export(self, use_case: str, actor: Actor, *, key: str, now: datetime) -> DataVersion | None:
        """Put all decided items with a label into the next data version; None where there are none.

        Items that resemble images of the test split stay decided.

        Raises:
            NotFound: The use case is unknown.
        """
        check_name(use_case, "use case")
        # Check first, so that items added before the data set was registered are compared with it, too.
        compared = self.similar.check_decided(use_case) if self.similar else None
        return self.store.export(use_case, Write.of(key, actor, in_utc(now), "export", use_case), compared)

    def _lease(self, action: Action, item: str, actor: Actor, key: str, now: datetime, lease: timedelta) -> ReviewItem:
        change = Change(action, actor, until=in_utc(now) + lease)
        return self.store.change(
            item, change, Write.of(key, actor, in_utc(now), action.value, item, lease.total_seconds())
        )

    def _submission(self, use_case: str, data: bytes, arrival: Arrival) -> Submission:
        check_name(use_case, "use case")
        known = self.store.use_case(use_case)
        task = task_for(known.task)
        header = read_header(data)
        image = ImageFacts(hashlib.sha256(data).hexdigest(), len(data), header.width, header.height, header.format)
        label = arrival.label
        if label is not None:
            label = task.check_label(label, known.scheme, image.width, image.height)
        predicted = arrival.predicted and _checked(arrival.predicted, task)
        return Submission(
            use_case=use_case,
            image=image,
            origin=arrival.origin,
            reference=arrival.reference,
            name=arrival.name,
            comment=arrival.comment,
            proposed=label,
            predicted=predicted,
            reasons=arrival.reasons,
        )

    def _label(self, item: ReviewItem, answer: Answer) -> Mapping[str, Any] | None:
        if answer.verdict is Verdict.REJECT:
            if answer.label is not None:
                raise Invalid("label: a rejection has none")
            return None
        use_case, image = self.store.use_case(item.use_case), item.image
        task, label = task_for(use_case.task), answer.label
        if answer.verdict is Verdict.CONFIRM:
            if label is not None:
                raise Invalid("label: a confirmation takes no label; send a correction instead")
            if item.predicted is None:
                raise WrongState(f"item {item.id}: has no prediction to confirm; send a correction")
            label = task.label_of(item.predicted.answer)
        elif label is None:
            raise Invalid("label: is missing; a correction needs one")
        return task.check_label(label, use_case.scheme, image.width, image.height)


def _checked(predicted: Predicted, task: TaskSpec[Any]) -> Predicted:
    """Return a prediction with only the fields of the task."""
    try:
        answer = task.answer.model_validate(predicted.answer)
    except ValidationError as error:
        raise Invalid(f"prediction: {describe_problem(first_error(error), task.answer).text}") from error
    return dataclasses.replace(predicted, answer=answer.model_dump(mode="json"))
