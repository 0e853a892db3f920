"""What review needs of a database and of a place for images. `visionops.review_store` has both."""

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
    Placed,
    ReviewItem,
    Submission,
    UseCase,
)
from visionops.review.likeness import Compared, ComparedWith
from visionops.review.outcomes import Decided, Traced
from visionops.review.searching import Found, SavedSearch, Search
from visionops.review.states import Actor, Change, State

__all__ = ["Added", "Cursor", "ImageStore", "Prioritized", "ReviewStore", "Stats", "Wanted", "Write"]


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """The identity of a write, by which a client may send it again: it is done once, and answered the same."""

    id: str
    """Of the actor and the client's key: SHA-256, so that two clients may choose the same key."""
    content: str
    """SHA-256 of what is to be written."""
    actor: Actor
    now: datetime
    """Aware."""

    @classmethod
    def of(cls, key: str, actor: Actor, now: datetime, *content: object) -> Write:
        """Return the identity of a write.

        Args:
            key: The client's; up to 200 characters.
            content: All that decides what is written, as plain values; not the time.

        Raises:
            Invalid: The key is empty, too long, or not one line.
        """
        return cls(digest_of(actor.name, check_name(key, "key")), digest_of(*content), actor, now)


@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """What became of a submission."""

    item: ReviewItem
    is_new: bool
    """False where the image was in review already."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cursor:
    """How far a segment of a log was read."""

    rows: int
    """Records whose items are durable, from the segment's first on."""
    is_finished: bool = False
    """No more will follow."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prioritized:
    """What became of new places in the queue."""

    changed: int
    same: int
    """Reasons and prediction were these already."""
    left: int
    """Somebody has claimed or decided the item meanwhile; it stays as it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """Which items are listed, newest first."""

    use_case: str | None = None
    states: Collection[State] = ()
    """Any of them; all when empty."""
    origin: Origin | None = None
    sha256: str | None = None
    reference: str | None = None
    """Of any arrival of the image, as a request id."""
    limit: int = 100
    after: str | None = None
    """Id of the last item of the page before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """How a use case's queue stands."""

    states: dict[str, int]
    """Items by state, every state named."""
    verdicts: dict[str, int]
    """Decisions of the present rounds by verdict."""
    reviewers: dict[str, int]
    """Decisions by reviewer, all rounds."""
    unused: int
    """Decided items with a label that no data version has and the next one takes."""
    oldest_pending: datetime | None
    versions: int
    """Number of the newest data version; 0 before the first."""
    second: int = 0
    """Items that wait for a second opinion."""
    third: int = 0
    """Items that wait for a third opinion, because two disagree."""
    held_out: int = 0
    """Decided items with a label that no data version takes: they resemble images of the test split."""


class ReviewStore(Protocol):
    """Keeps items, decisions and their audit. Every method is one transaction.

    All raise `Unavailable` where the database cannot be reached or written, and `OtherSchema` where it is of another
    version. Those that take a `Write` return the first answer when it comes again, and raise `KeyReused` when its
    content is another.
    """

    def put_use_case(self, use_case: UseCase) -> None:
        """Make a use case known, or add classes to it.

        Raises:
            Conflict: It is known with another task, or the scheme does not extend the known one.
        """

    def use_case(self, name: str) -> UseCase:
        """Return a use case.

        Raises:
            NotFound: It is not known.
        """

    def use_cases(self) -> list[UseCase]:
        """Return all of them, by name."""

    def second_share(self, use_case: str) -> float:
        """Return the share of a use case's items that need two opinions; 0 until it is set.

        Raises:
            NotFound: It is not known.
        """

    def set_second_share(self, use_case: str, share: float) -> None:
        """Set that share, from 0 to 1. It acts on the next first opinion of every item.

        Raises:
            NotFound: It is not known.
        """

    def added(self, write: Write) -> Added | None:
        """Return what `add` answered to this write before; None when it did not."""

    def reserve(self, sha256: str, now: datetime) -> str | None:
        """Announce an image before it is put into the image store, so that no sweep removes it.

        Returns:
            A token for `add`; None where the image is durable already.
        """

    def add(
        self, submission: Submission, token: str | None, write: Write, compared: Compared | None = None
    ) -> Added | None:
        """Keep an arrival, and make an item of its image unless there is one.

        Args:
            token: Of `reserve`, after which the image was made durable.
            compared: What the image resembles; kept unless the item has it already.

        Returns:
            None where a sweep has taken the reservation meanwhile: begin again with `reserve`.

        Raises:
            NotFound: The use case is not known.
        """

    def cursors(self, use_case: str, log: str) -> dict[str, Cursor]:
        """Return how far the segments of a log were read, by their names.

        Raises:
            NotFound: The use case is not known.
        """

    def move_cursor(self, use_case: str, log: str, segment: str, cursor: Cursor, now: datetime) -> None:
        """Keep how far a segment was read. A cursor never goes back."""

    def change(
        self,
        item: str,
        change: Change,
        write: Write,
        decision: Decision | None = None,
        opinion: Opinion | None = None,
    ) -> ReviewItem:
        """Apply a change to an item by `advance`, with its audit row.

        Args:
            decision: Of `Action.DECIDE`.
            opinion: Of `Action.OPINE`, and of the decision of an item that has opinions.

        Raises:
            NotFound: There is no such item.
            WrongState: It was reopened, or got an opinion, since the decision was made of what it was.
            ReviewError: As `advance`.
        """

    def claim_next(self, use_case: str, change: Change, write: Write) -> ReviewItem | None:
        """Apply a claim to the claimable item of the highest priority, the oldest first; None where there is none.

        An item on which the actor has given an opinion in this round is none of theirs.
        """

    def export(self, use_case: str, write: Write, compared: ComparedWith | None = None) -> DataVersion | None:
        """Take all decided items with a label into the next data version; None where there is none.

        Items that resemble images of the test split stay decided.

        Args:
            compared: Items that were compared with less stay decided, too, until the next export.
        """

    def prioritize(self, use_case: str, placed: Sequence[Placed], write: Write) -> Prioritized:
        """Give pending items of a use case their reasons, priority and prediction by `Action.PRIORITIZE`.

        Raises:
            NotFound: The use case, or an item of it, is not known; nothing is changed then.
        """

    def item(self, item: str) -> ReviewItem:
        """Return an item.

        Raises:
            NotFound: There is none of this id.
        """

    def items(self, wanted: Wanted) -> list[ReviewItem]:
        """Return a page of items.

        Raises:
            NotFound: There is no item `Wanted.after`.
        """

    def search(self, search: Search) -> Found:
        """Return a page of the items that match, newest first, or in the order of `Search.items`."""

    def search_ids(self, search: Search) -> list[str]:
        """Return the ids of all items that match, in the same order; at most `MOST_EXPORTED`."""

    def classes_found(self, use_case: str) -> list[str]:
        """Return every class that an item has by a model or a label, as `Search.names` takes it, sorted."""

    def searches(self, owner: str) -> list[SavedSearch]:
        """Return the filters that somebody keeps, by name."""

    def keep_search(self, saved: SavedSearch, now: datetime) -> None:
        """Keep a filter; one of the same owner and name is replaced."""

    def drop_search(self, owner: str, name: str) -> None:
        """Remove a filter, if it is there."""

    def arrivals(self, item: str) -> list[Submission]:
        """Return all arrivals of an item's image, oldest first."""

    def decisions(self, item: str) -> list[Decision]:
        """Return the decisions of an item, by round."""

    def opinions(self, item: str) -> list[Opinion]:
        """Return the opinions on an item, by round and number. `seen_by` says who may see which."""

    def opinions_of(self, use_case: str) -> list[Opinion]:
        """Return the opinions on all items of a use case, by item, round and number.

        Raises:
            NotFound: It is not known.
        """

    def history(self, item: str) -> list[AuditRow]:
        """Return every change of an item, oldest first."""

    def version(self, use_case: str, number: int) -> list[tuple[ReviewItem, Decision]]:
        """Return what a data version has, by image.

        Raises:
            NotFound: There is no such version.
        """

    def decided(
        self, use_case: str, version: int | None = None, rejected_until: datetime | None = None
    ) -> list[Decided]:
        """Return each decided item with its newest decision that counts, by image.

        An item that was reopened counts by what was decided before, until it is decided anew.

        Args:
            version: Labels count that this data version, or one before it, has; all when None.
            rejected_until: Rejections count up to this time; all when None. Aware.

        Raises:
            NotFound: The use case is not known.
        """

    def trace(self, item: str) -> Traced:
        """Return the whole history of an item.

        Raises:
            NotFound: There is none of this id.
        """

    def versions(self, use_case: str) -> list[DataVersion]:
        """Return the data versions of a use case, oldest first."""

    def stats(self, use_case: str) -> Stats:
        """Return how the queue of a use case stands."""

    def unfinished(self, before: datetime) -> list[str]:
        """Return the SHA-256 of images that were announced before this time and of which nothing more was heard."""

    def missing(self, digests: Sequence[str]) -> set[str]:
        """Return those of ``digests`` that the database does not know as durable images."""

    def forget(self, sha256: str, before: datetime, remove: Callable[[], None]) -> bool:
        """Call ``remove`` for an image that nothing refers to, while no intake of the same image can begin.

        Args:
            before: An image announced since is left alone.

        Returns:
            Whether it was removed: False where something refers to it.
        """


class ImageStore(Protocol):
    """Keeps encoded images by their SHA-256. All raise `Unavailable` where it cannot be reached or written."""

    def put(self, sha256: str, data: bytes) -> None:
        """Keep an image. When this returns, it survives a crash; putting it again changes nothing."""

    def read(self, sha256: str) -> bytes:
        """Return an image.

        Raises:
            NotFound: It is not there.
        """

    def path(self, sha256: str) -> Path | None:
        """Return where an image lies, or would lie, on this machine; None for a store elsewhere."""

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """Yield the images that are there, and when each was put."""

    def remove(self, sha256: str) -> None:
        """Remove an image, if it is there."""

    def tidy(self, before: datetime) -> int:
        """Remove what interrupted calls of `put` left before this time; return how many."""
