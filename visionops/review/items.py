"""What is reviewed: images with where they came from and what a model said of them, and what reviewers decided."""

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
    "Placed",
    "Predicted",
    "Reason",
    "ReviewItem",
    "Submission",
    "UseCase",
    "decision_id",
    "item_id",
]

RANDOM = "random"
"""Kind of the reason of an item that was drawn at random: only such items say how good a model is on its traffic."""
_SHA256 = re.compile("[0-9a-f]{64}")
_MOST_REASONS = 20


class Origin(enum.StrEnum):
    """How an image came to be reviewed."""

    TRAFFIC = "traffic"
    """Sampled from what the endpoint was asked; the reference is the request id."""
    UPLOAD = "upload"
    BATCH = "batch"
    IMPORT = "import"


@dataclasses.dataclass(frozen=True, slots=True)
class UseCase:
    """What is learned, and what reviewers can answer."""

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
    """An image by its content."""

    sha256: str
    """Of the encoded bytes, lower-case hex."""
    num_bytes: int
    width: int
    """Pixels after EXIF rotation."""
    height: int
    format: str
    """Pillow's name: ``JPEG``, ``PNG``, …"""

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.sha256!r} is no SHA-256")


@dataclasses.dataclass(frozen=True, slots=True)
class Predicted:
    """What a model said of an image."""

    model: str
    """Its registered name."""
    version: str
    answer: Mapping[str, Any]
    """The task's part of an answer, as `Prediction.to_dict` gives it."""

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        check_name(self.version, "version")
        object.__setattr__(self, "answer", check_json(self.answer, "prediction"))


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """Why an item stands where it does in the queue."""

    kind: str
    """In a word, as ``uncertainty`` or ``random``."""
    value: float = 0.0
    """What it adds to the priority."""
    text: str = ""
    """For people."""

    def __post_init__(self) -> None:
        check_name(self.kind, "reason", 40)
        check_text(self.text, "reason", 500)
        if not math.isfinite(self.value):
            raise Invalid(f"reason {self.kind}: {self.value} is no number")


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """One arrival of an image. The same image may arrive again, from elsewhere: the item stays one.

    Raises:
        Invalid: A text is too long or has a control character, or there are more than 20 reasons.
    """

    use_case: str
    image: ImageFacts
    origin: Origin
    reference: str = ""
    """Request id of traffic; lot of a batch; anything that says where an upload came from."""
    name: str = ""
    """Of the file, as its sender calls it: shown, never opened."""
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
        """Id of the item."""
        return item_id(self.use_case, self.image.sha256)

    @property
    def priority(self) -> float:
        """The higher, the sooner it is reviewed: the sum of the reasons."""
        return math.fsum(reason.value for reason in self.reasons)


@dataclasses.dataclass(frozen=True, slots=True)
class ReviewItem:
    """An image of a use case in review. There is one for an image, however often it arrives."""

    id: str
    first: Submission
    """Its first arrival."""
    added: datetime
    """When that was; UTC."""
    status: Status
    reasons: tuple[Reason, ...] = ()
    """Why it stands where it does in the queue now; at first those of its first arrival."""
    predicted: Predicted | None = None
    """What a model says of it now, which a reviewer can confirm; at first that of its first arrival."""
    likeness: Likeness | None = None
    """What it resembles; None where it was not compared with anything yet."""

    @property
    def is_held_out(self) -> bool:
        """Whether it is kept out of training: it resembles an image of the test split, and is none of the data set."""
        return self.likeness is not None and self.likeness.holds_out(self.image.sha256)

    @property
    def image(self) -> ImageFacts:
        """What is reviewed."""
        return self.first.image

    @property
    def priority(self) -> float:
        """The higher, the sooner it is reviewed: the sum of its present reasons."""
        return math.fsum(reason.value for reason in self.reasons)

    @property
    def use_case(self) -> str:
        """What it is reviewed for."""
        return self.first.use_case


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """A new place in the queue for an item that waits.

    Raises:
        Invalid: There are more than 20 reasons.
    """

    item: str
    reasons: tuple[Reason, ...]
    predicted: Predicted | None
    """What the present model says of it; None leaves what the item has."""

    def __post_init__(self) -> None:
        if len(self.reasons) > _MOST_REASONS:
            raise Invalid(f"reasons: {len(self.reasons)} are too many; at most {_MOST_REASONS}")

    @property
    def priority(self) -> float:
        """The sum of the reasons."""
        return math.fsum(reason.value for reason in self.reasons)


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer said of an item in one of its rounds. Never changed, never removed."""

    id: str
    item: str
    round: int
    reviewer: str
    at: datetime
    """UTC."""
    verdict: Verdict
    label: Mapping[str, Any] | None
    """In the task's form; None of a rejection."""
    reason: str = ""
    """Of a rejection."""
    comment: str = ""

    def __post_init__(self) -> None:
        _check_answer(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Opinion:
    """One of several answers to an item that needs more than one. Never changed, never removed."""

    item: str
    round: int
    number: int
    """1 and 2 are given blind; 3 settles their disagreement."""
    reviewer: str
    at: datetime
    """UTC."""
    verdict: Verdict
    label: Mapping[str, Any] | None
    """In the task's form; None of a rejection."""
    reason: str = ""
    """Of a rejection."""
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
    """Of the item after it; 0 when it came."""
    at: datetime
    actor: str
    action: str
    """A value of `Action`; ``add`` when the item came."""
    before: str
    """State; "" when the item came."""
    after: str
    details: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class DataVersion:
    """The labels that one export took."""

    use_case: str
    number: int
    """1, 2, 3, … in a use case."""
    at: datetime
    by: str
    num_items: int


def item_id(use_case: str, sha256: str) -> str:
    """Return the id of an image's item in a use case: 32 hex digits."""
    return digest_of("item", use_case, sha256)[:32]


def decision_id(item: str, round_: int) -> str:
    """Return the id of the decision of an item's round: 32 hex digits."""
    return digest_of("decision", item, round_)[:32]
