"""`AnnotationTool`: port for tools in which people annotate items. The review queue itself is one, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from visionops.review.items import ReviewItem, UseCase

__all__ = ["Annotation", "AnnotationTool", "QueueTool", "Ticket", "ticket_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """A round of an item. A reopened item gets a new ticket."""

    item: str
    round: int


@dataclasses.dataclass(frozen=True, slots=True)
class Annotation:
    """A person's annotation of one round of an item."""

    ticket: Ticket
    reference: str
    """Identifies this state of the annotation in the tool; it becomes the comment of the decision."""
    reviewer: str
    label: Mapping[str, Any] | None = None
    """Label in the task's form, not checked yet; None where the image is rejected or ``problem`` is set."""
    rejection: str = ""
    """Reason for which the image is not used as training data."""
    problem: str = ""
    """Reason for which this annotation cannot become a decision."""


class AnnotationTool(Protocol):
    """A tool for annotating images. All methods raise `Unavailable` where it cannot be reached."""

    @property
    def title(self) -> str:
        """Return the tool's name and place, for messages."""

    def present(self, use_case: UseCase, tickets: Sequence[Ticket]) -> set[Ticket]:
        """Return those of ``tickets`` that the tool already has."""

    def push(self, use_case: UseCase, items: Sequence[ReviewItem], read: Callable[[str], bytes]) -> None:
        """Add items, with the model's prediction as pre-annotation. Items of one call are added together or not at all.

        Args:
            items: Items that are not `present` yet.
            read: Function that returns the encoded image for a SHA-256.

        Raises:
            Invalid: The tool cannot show this use case, or refuses the items.
        """

    def annotations(self, use_case: UseCase) -> Iterator[Annotation]:
        """Yield one annotation for each ticket that has one. Skipped items and drafts are left out."""


class QueueTool:
    """The review queue of this database: it has all items, and decisions arrive without a pull."""

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
    """Return the ticket of an item's current round."""
    return Ticket(item.id, item.status.round)
