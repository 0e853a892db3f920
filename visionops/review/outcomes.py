"""What a review came to: which decision of an item counts, and all that is known of it."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from visionops.review.items import AuditRow, Decision, ReviewItem, Submission

__all__ = ["Arrived", "Decided", "Traced"]


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """An item with the newest of its decisions that counts."""

    item: ReviewItem
    decision: Decision
    version: int | None
    """Data version that has the decision; None of a rejection, and of a label that no version has yet."""
    is_random: bool
    """Whether it is an image of traffic that was drawn at random."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrived:
    """One arrival of an item's image, and when and by whom it came."""

    submission: Submission
    at: datetime
    """UTC."""
    by: str


@dataclasses.dataclass(frozen=True, slots=True)
class Traced:
    """All that is known of an item, read in one transaction."""

    item: ReviewItem
    arrivals: tuple[Arrived, ...]
    """Oldest first."""
    changes: tuple[AuditRow, ...]
    """Oldest first."""
    decisions: tuple[tuple[Decision, int | None], ...]
    """By round, each with the data version that has it."""
