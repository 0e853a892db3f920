"""Results of a review: the decision of an item that counts, and its full history."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from visionops.review.items import AuditRow, Decision, ReviewItem, Submission

__all__ = ["Decided", "ItemArrival", "ItemTrace"]


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """An item with the newest of its decisions that counts."""

    item: ReviewItem
    decision: Decision
    version: int | None
    """Data version that has the decision; None for a rejection, and for a label that no version has yet."""
    is_random: bool
    """Whether the image was drawn at random from traffic."""


@dataclasses.dataclass(frozen=True, slots=True)
class ItemArrival:
    """One arrival of an item's image, with its time and sender."""

    submission: Submission
    at: datetime
    """Time of the arrival; UTC."""
    by: str


@dataclasses.dataclass(frozen=True, slots=True)
class ItemTrace:
    """Full history of an item, read in one transaction."""

    item: ReviewItem
    arrivals: tuple[ItemArrival, ...]
    """Arrivals, oldest first."""
    changes: tuple[AuditRow, ...]
    """Changes, oldest first."""
    decisions: tuple[tuple[Decision, int | None], ...]
    """Decisions by round, each with the data version that has it."""
