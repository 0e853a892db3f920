"""Ports of the review: its database and its image store. `visionops.review_store` implements both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from visionops.review.checks import check_name, digest_of
from visionops.review.items import (
    AuditRow,
    DataVersion,
    Decision,
    Opinion,
    Origin,
    QueuePlace,
    ReviewItem,
    Submission,
    UseCase,
)
from visionops.review.likeness import Compared, ComparedWith
from visionops.review.outcomes import Decided, ItemTrace
from visionops.review.searching import Found, SavedSearch, Search
from visionops.review.states import Actor, Change, State

__all__ = ["Cursor", "ImageStore", "ItemFilter", "Prioritized", "ReviewStore", "Stats", "SubmissionResult", "Write"]


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """Identity of a write. A client may repeat the write: it is done once and gets the same answer."""

    id: str
    """SHA-256 of the actor and the client's key, so that two clients may use the same key."""
    content: str
    """SHA-256 of the content to write."""
    actor: Actor
    now: datetime
    """Time of the write; aware."""

    @classmethod
    def of(cls, key: str, actor: Actor, now: datetime, *content: object) -> Write:
        """Return the identity of a write.

        Args:
            key: The client's key, up to 200 characters.
            content: All values that determine what is written, as plain values; not the time.

        Raises:
            Invalid: The key is empty, too long, or not one line.
        """
        return cls(digest_of(actor.name, check_name(key, "key")), digest_of(*content), actor, now)


@dataclasses.dataclass(frozen=True, slots=True)
class SubmissionResult:
    """Result of a submission."""

    item: ReviewItem
    is_new: bool
    """False where the image was in review already."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """Position up to which a segment of a log was read."""

    rows: int
    """Number of records from the start of the segment whose items are durable."""
    is_finished: bool = False
    """Whether the segment gets no more records."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prioritized:
    """Result of updating places in the queue."""

    changed: int
    same: int
    """Items whose reasons and prediction were already the same."""
    left: int
    """Items that were claimed or decided meanwhile; they stay unchanged."""


@dataclasses.dataclass(frozen=True, slots=True)
class ItemFilter:
    """Filter for listing items, newest first."""

    use_case: str | None = None
    states: Collection[State] = ()
    """States of the items; all when empty."""
    origin: Origin | None = None
    sha256: str | None = None
    reference: str | None = None
    """Reference of any arrival of the image, such as a request id."""
    limit: int = 100
    after: str | None = None
    """Id of the last item of the previous page."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """Statistics of a use case's queue."""

    states: dict[str, int]
    """Number of items by state; every state is included."""
    verdicts: dict[str, int]
    """Number of decisions of the current rounds, by verdict."""
    reviewers: dict[str, int]
    """Number of decisions of all rounds, by reviewer."""
    unused: int
    """Decided items whose label the next data version will include."""
    oldest_pending: datetime | None
    versions: int
    """Number of the newest data version; 0 before the first."""
    second: int = 0
    """Items that wait for a second opinion."""
    third: int = 0
    """Items that wait for a third opinion, because two disagree."""
    held_out: int = 0
    """Decided items whose label no data version includes, because they resemble images of the test split."""


class ReviewStore(Protocol):
    """Store of items, decisions and their audit log. Every method is one transaction.

    All raise `Unavailable` where the database cannot be reached or written, and `OtherSchema` where its schema has
    another version. Methods that take a `Write` return the first answer when it is repeated, and raise `KeyReused` when
    its content differs.
    """

    def put_use_case(self, use_case: UseCase) -> None:
        """Add a use case, or add classes to it.

        Raises:
            Conflict: It exists with another task, or the scheme does not extend the existing one.
        """

    def use_case(self, name: str) -> UseCase:
        """Return a use case.

        Raises:
            NotFound: It is unknown.
        """

    def use_cases(self) -> list[UseCase]:
        """Return all use cases, by name."""

    def second_share(self, use_case: str) -> float:
        """Return the share of a use case's items that need two opinions; 0 until it is set.

        Raises:
            NotFound: It is unknown.
        """

    def set_second_share(self, use_case: str, share: float) -> None:
        """Set the share of items that need two opinions, 0 to 1. It applies to the next first opinion of every item.

        Raises:
            NotFound: It is unknown.
        """

    def added(self, write: Write) -> SubmissionResult | None:
        """Return what `add` answered to this write before; None where it is new."""

    def reserve(self, sha256: str, now: datetime) -> str | None:
        """Announce an image before it is put into the image store, so that no sweep removes it.

        Returns:
            A token for `add`; None where the image is already durable.
        """

    def add(
        self, submission: Submission, token: str | None, write: Write, compared: Compared | None = None
    ) -> SubmissionResult | None:
        """Store an arrival, and create an item for its image where there is none.

        Args:
            token: Token from `reserve`, after which the image was made durable.
            compared: Comparison result of the image; stored unless the item has one.

        Returns:
            None where a sweep removed the reservation meanwhile: start again with `reserve`.

        Raises:
            NotFound: The use case is unknown.
        """

    def cursors(self, use_case: str, log: str) -> dict[str, Cursor]:
        """Return the read position of each segment of a log, keyed by segment name.

        Raises:
            NotFound: The use case is unknown.
        """

    def move_cursor(self, use_case: str, log: str, segment: str, cursor: Cursor, now: datetime) -> None:
        """Store the read position of a segment. A cursor never moves back."""

    def change(
        self,
        item: str,
        change: Change,
        write: Write,
        decision: Decision | None = None,
        opinion: Opinion | None = None,
    ) -> ReviewItem:
        """Apply a change to an item with `advance`, and add its audit row.

        Args:
            decision: Decision for `Action.DECIDE`.
            opinion: Opinion for `Action.OPINE`, and for the decision of an item that has opinions.

        Raises:
            NotFound: The item does not exist.
            WrongState: It was reopened, or got an opinion, after it was read for this decision.
            ReviewError: See `advance`.
        """

    def claim_next(self, use_case: str, change: Change, write: Write) -> ReviewItem | None:
        """Claim the claimable item with the highest priority, oldest first; None where there is none.

        Items on which the actor has given an opinion in this round are skipped.
        """

    def export(self, use_case: str, write: Write, compared: ComparedWith | None = None) -> DataVersion | None:
        """Put all decided items with a label into the next data version; None where there are none.

        Items that resemble images of the test split stay decided.

        Args:
            compared: Items that were compared with an earlier revision stay decided until the next export.
        """

    def prioritize(self, use_case: str, placed: Sequence[QueuePlace], write: Write) -> Prioritized:
        """Update reasons, priority and prediction of pending items of a use case by `Action.PRIORITIZE`.

        Raises:
            NotFound: The use case, or an item of it, is unknown; nothing is changed then.
        """

    def item(self, item: str) -> ReviewItem:
        """Return an item.

        Raises:
            NotFound: No item has this id.
        """

    def items(self, wanted: ItemFilter) -> list[ReviewItem]:
        """Return a page of items.

        Raises:
            NotFound: There is no item `ItemFilter.after`.
        """

    def search(self, search: Search) -> Found:
        """Return a page of the items that match, newest first, or in the order of `Search.items`."""

    def search_ids(self, search: Search) -> list[str]:
        """Return the ids of all matching items, in the same order; at most `MOST_EXPORTED`."""

    def classes_found(self, use_case: str) -> list[str]:
        """Return every class that an item has by a model or a label, in the form of `Search.names`, sorted."""

    def searches(self, owner: str) -> list[SavedSearch]:
        """Return a person's saved filters, by name."""

    def keep_search(self, saved: SavedSearch, now: datetime) -> None:
        """Save a filter, replacing one with the same owner and name."""

    def drop_search(self, owner: str, name: str) -> None:
        """Remove a saved filter, if it exists."""

    def arrivals(self, item: str) -> list[Submission]:
        """Return all arrivals of an item's image, oldest first."""

    def decisions(self, item: str) -> list[Decision]:
        """Return the decisions of an item, by round."""

    def opinions(self, item: str) -> list[Opinion]:
        """Return the opinions on an item, by round and number. `seen_by` returns those that a viewer may see."""

    def opinions_of(self, use_case: str) -> list[Opinion]:
        """Return the opinions on all items of a use case, by item, round and number.

        Raises:
            NotFound: It is unknown.
        """

    def history(self, item: str) -> list[AuditRow]:
        """Return every change of an item, oldest first."""

    def version(self, use_case: str, number: int) -> list[tuple[ReviewItem, Decision]]:
        """Return the content of a data version, by image.

        Raises:
            NotFound: The version does not exist.
        """

    def decided(
        self, use_case: str, version: int | None = None, rejected_until: datetime | None = None
    ) -> list[Decided]:
        """Return each decided item with its newest decision that counts, ordered by image.

        For a reopened item the earlier decision counts until it is decided again.

        Args:
            version: Count only labels that this data version or an earlier one has; all when None.
            rejected_until: Count only rejections up to this time, aware; all when None.

        Raises:
            NotFound: The use case is unknown.
        """

    def trace(self, item: str) -> ItemTrace:
        """Return the whole history of an item.

        Raises:
            NotFound: No item has this id.
        """

    def versions(self, use_case: str) -> list[DataVersion]:
        """Return the data versions of a use case, oldest first."""

    def stats(self, use_case: str) -> Stats:
        """Return the statistics of a use case's queue."""

    def unfinished(self, before: datetime) -> list[str]:
        """Return the SHA-256 of images that were announced before this time and never completed."""

    def missing(self, digests: Sequence[str]) -> set[str]:
        """Return those of ``digests`` that the database does not know as durable images."""

    def forget(self, sha256: str, before: datetime, remove: Callable[[], None]) -> bool:
        """Call ``remove`` for an image that nothing refers to, while no intake of the same image can begin.

        Args:
            before: Keep images that were announced after this time.

        Returns:
            True where it was removed, False where something refers to it.
        """


class ImageStore(Protocol):
    """Store of encoded images by SHA-256. All methods raise `Unavailable` where it cannot be reached or written."""

    def put(self, sha256: str, data: bytes) -> None:
        """Store an image. When this returns, it survives a crash; storing it again changes nothing."""

    def read(self, sha256: str) -> bytes:
        """Return an image.

        Raises:
            NotFound: The image does not exist.
        """

    def path(self, sha256: str) -> Path | None:
        """Return the file path of an image on this machine, existing or not; None for a remote store."""

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """Yield all stored images with the time of their storing."""

    def remove(self, sha256: str) -> None:
        """Remove an image, if it exists."""

    def tidy(self, before: datetime) -> int:
        """Remove drafts that interrupted calls of `put` left before this time; return their number."""
