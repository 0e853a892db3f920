"""Types of reviewed items: images with their origin, the model's prediction, and the reviewers' decisions."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from visionops.review.checks import check_json, check_name, check_text, digest_of
from visionops.review.errors import Invalid
from visionops.review.likeness import Likeness
from visionops.review.states import Status, Verdict
from visionops.tasks.labelling import LabelScheme

__all__ = [
    "RANDOM",
    "AuditRow",
    "DataVersion",
    "Decision",
    "ImageFacts",
    "Opinion",
    "Origin",
    "Predicted",
    "QueuePlace",
    "Reason",
    "ReviewItem",
    "Submission",
    "UseCase",
    "decision_id",
    "item_id",
]

RANDOM = "random"
"""Kind of the reason of an item that was drawn at random. Only such items measure a model's quality on its traffic."""
_SHA256 = re.compile("[0-9a-f]{64}")
_MOST_REASONS = 20


class Origin(enum.StrEnum):
    """Way by which an image came to be reviewed."""

    TRAFFIC = "traffic"
    """Sampled from requests to the endpoint; the reference is the request id."""
    UPLOAD = "upload"
    BATCH = "batch"
    IMPORT = "import"


@dataclasses.dataclass(frozen=True, slots=True)
class UseCase:
    """A use case: its task, and the answers that reviewers can give."""

    name: str
    task: str
    """Name of a registered task."""
    scheme: LabelScheme

    def __post_init__(self) -> None:
        check_name(self.name, "use case")
        for name in (*self.scheme.class_names, *(q.name for q in self.scheme.questions)):
            check_name(name, "class")
        for question in self.scheme.questions:
            for name in question.class_names:
                check_name(name, question.name)


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts about an image that follow from its content."""

    sha256: str
    """SHA-256 of the encoded bytes, lower-case hex."""
    num_bytes: int
    width: int
    """Width in pixels after EXIF rotation."""
    height: int
    format: str
    """Pillow's name of the format: ``JPEG``, ``PNG``, …"""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256!r} is not a SHA-256")


@dataclasses.dataclass(frozen=True, slots=True)
class Predicted:
    """A model's prediction for an image."""

    model: str
    """Registered name of the model."""
    version: str
    answer: Mapping[str, Any]
    """The task's part of an answer, as `Prediction.to_dict` gives it."""

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        check_name(self.version, "version")
        object.__setattr__(self, "answer", check_json(self.answer, "prediction"))


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """Reason for the place of an item in the queue."""

    kind: str
    """Kind in one word, such as ``uncertainty`` or ``random``."""
    value: float = 0.0
    """Amount that it adds to the priority."""
    text: str = ""
    """Explanation for people."""

    def __post_init__(self) -> None:
        check_name(self.kind, "reason", 40)
        check_text(self.text, "reason", 500)
        if not math.isfinite(self.value):
            raise Invalid(f"reason {self.kind}: {self.value} is not a finite number")


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """One arrival of an image. The same image may arrive again from another source; it stays one item.

    Raises:
        Invalid: A text is too long or has a control character, or there are more than 20 reasons.
    """

    use_case: str
    image: ImageFacts
    origin: Origin
    reference: str = ""
    """Request id of traffic, lot of a batch, or any text that identifies the source of an upload."""
    name: str = ""
    """File name given by the sender. It is shown, never opened."""
    comment: str = ""
    proposed: Mapping[str, Any] | None = None
    """A label that came with the image, in the task's form, not yet decided."""
    predicted: Predicted | None = None
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.use_case, "use case")
        check_text(self.reference, "reference", 200)
        check_text(self.name, "name", 500)
        check_text(self.comment, "comment")
        if self.proposed is not None:
            object.__setattr__(self, "proposed", check_json(self.proposed, "label"))
        if len(self.reasons) > _MOST_REASONS:
            raise Invalid(f"reasons: {len(self.reasons)} are too many; at most {_MOST_REASONS}")

    @property
    def item(self) -> str:
        """Return the id of the item."""
        return item_id(self.use_case, self.image.sha256)

    @property
    def priority(self) -> float:
        """Return the priority, the sum of the reasons; a higher priority is reviewed sooner."""
        return math.fsum(reason.value for reason in self.reasons)


@dataclasses.dataclass(frozen=True, slots=True)
class ReviewItem:
    """An image of a use case in review. Each image has one item, however often it arrives."""

    id: str
    first: Submission
    """First arrival of the image."""
    added: datetime
    """Time of the first arrival; UTC."""
    status: Status
    reasons: tuple[Reason, ...] = ()
    """Reasons for its current place in the queue; initially those of its first arrival."""
    predicted: Predicted | None = None
    """Current prediction, which a reviewer can confirm; initially that of its first arrival."""
    likeness: Likeness | None = None
    """Image that it resembles; None where it was not compared yet."""

    @property
    def is_held_out(self) -> bool:
        """Return whether it is kept out of training because it resembles an image of the data set's test split."""
        return self.likeness is not None and self.likeness.holds_out(self.image.sha256)

    @property
    def image(self) -> ImageFacts:
        """Return the image under review."""
        return self.first.image

    @property
    def priority(self) -> float:
        """Return the priority, the sum of the current reasons; a higher priority is reviewed sooner."""
        return math.fsum(reason.value for reason in self.reasons)

    @property
    def use_case(self) -> str:
        """Return the name of the use case."""
        return self.first.use_case


@dataclasses.dataclass(frozen=True, slots=True)
class QueuePlace:
    """A new place in the queue for a pending item.

    Raises:
        Invalid: There are more than 20 reasons.
    """

    item: str
    reasons: tuple[Reason, ...]
    predicted: Predicted | None
    """Prediction of the current model; None keeps the item's prediction."""

    def __post_init__(self) -> None:
        if len(self.reasons) > _MOST_REASONS:
            raise Invalid(f"reasons: {len(self.reasons)} are too many; at most {_MOST_REASONS}")

    @property
    def priority(self) -> float:
        """Return the sum of the reasons."""
        return math.fsum(reason.value for reason in self.reasons)


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """A reviewer's decision on one round of an item. It is never changed or removed."""

    id: str
    item: str
    round: int
    reviewer: str
    at: datetime
    """UTC."""
    verdict: Verdict
    label: Mapping[str, Any] | None
    """Label in the task's form; None for a rejection."""
    reason: str = ""
    """Reason of a rejection."""
    comment: str = ""

    def __post_init__(self) -> None:
        _check_answer(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Opinion:
    """One of several answers to an item that needs more than one. It is never changed or removed."""

    item: str
    round: int
    number: int
    """Number of the opinion: 1 and 2 are given blind, 3 settles their disagreement."""
    reviewer: str
    at: datetime
    """UTC."""
    verdict: Verdict
    label: Mapping[str, Any] | None
    """Label in the task's form; None for a rejection."""
    reason: str = ""
    """Reason of a rejection."""
    comment: str = ""

    def __post_init__(self) -> None:
        _check_answer(self)


def _check_answer(given: Decision | Opinion) -> None:
    check_text(given.reason, "reason")
    check_text(given.comment, "comment")
    if given.verdict.has_label == (given.label is None):
        raise Invalid("label: a rejection has none" if given.label is not None else "label: is missing")
    if given.verdict is Verdict.REJECT and not given.reason.strip():
        raise Invalid("reason: is empty; say why the image is rejected")


@dataclasses.dataclass(frozen=True, slots=True)
class AuditRow:
    """One change of an item."""

    item: str
    revision: int
    """Revision of the item after the change; 0 when it was added."""
    at: datetime
    actor: str
    action: str
    """A value of `Action`; ``add`` when the item was added."""
    before: str
    """State before the change; "" when the item was added."""
    after: str
    details: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class DataVersion:
    """Labels that one export included."""

    use_case: str
    number: int
    """Number of the version in its use case, from 1."""
    at: datetime
    by: str
    num_items: int


def item_id(use_case: str, sha256: str) -> str:
    """Return the id of the item of an image in a use case: 32 hex digits."""
    return digest_of("item", use_case, sha256)[:32]


def decision_id(item: str, round_: int) -> str:
    """Return the id of the decision on an item's round: 32 hex digits."""
    return digest_of("decision", item, round_)[:32]
