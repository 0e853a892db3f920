"""`AnnotationTool`: where people look at items and say what they see. The review queue itself is one, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from visionops.review.items import ReviewItem, UseCase

__all__ = ["Annotation", "AnnotationTool", "QueueTool", "Ticket", "ticket_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """A round of an item: a reopened item is annotated anew."""

    item: str
    round: int


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """What a person said in a tool about one round of an item."""

    ticket: Ticket
    reference: str
    """Identifies this state of the annotation in the tool; it becomes the comment of the decision."""
    reviewer: str
    label: Mapping[str, Any] | None = None
    """In the task's form, not checked yet; None where the image is rejected, or ``problem`` says why."""
    rejection: str = ""
    """Why the image is no training data."""
    problem: str = ""
    """Why this cannot become a decision."""


class AnnotationTool(Protocol):
    """A tool for annotating images. All methods raise `Unavailable` where it cannot be reached."""

    @property
    def title(self) -> str:
        """Return the tool and its place, for people."""

    def present(self, use_case: UseCase, tickets: Sequence[Ticket]) -> set[Ticket]:
        """Return those of ``tickets`` that the tool has already."""

    def push(self, use_case: UseCase, items: Sequence[ReviewItem], read: Callable[[str], bytes]) -> None:
        """Add items, with what a model predicted as pre-annotation. Items of one call come together or not at all.

        Args:
            items: None of them is `present`.
            read: Returns the encoded image of a SHA-256.

        Raises:
            Invalid: The tool cannot show this use case, or refuses the items.
        """

    def annotations(self, use_case: UseCase) -> Iterator[Annotation]:
        """Yield what people said, one annotation a ticket. Skipped items and drafts are left out."""


class QueueTool:
    """The review queue of this database: items are in it already, and decisions arrive without a pull."""

    title = "the review queue"

    def present(self, use_case: UseCase, tickets: Sequence[Ticket]) -> set[Ticket]:
        """See `AnnotationTool`."""
        del use_case
        return set(tickets)

    def push(self, use_case: UseCase, items: Sequence[ReviewItem], read: Callable[[str], bytes]) -> None:
        """See `AnnotationTool`; there is nothing to do."""

    def annotations(self, use_case: UseCase) -> Iterator[Annotation]:
        """See `AnnotationTool`; there are none."""
        del use_case
        return iter(())


def ticket_of(item: ReviewItem) -> Ticket:
    """Return the ticket of an item's present round."""
    return Ticket(item.id, item.status.round)
