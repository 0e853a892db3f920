"""What is known already: images that resemble an image, in review or in the data set of its use case."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from visionops.review.states import State
from visionops.similarity.growing import Stored

__all__ = [
    "HELD_OUT",
    "SPLITS",
    "Compared",
    "ComparedWith",
    "Known",
    "Likeness",
    "LikenessStore",
    "Neighbour",
    "SeenImage",
    "Unchecked",
]

HELD_OUT = "test"
"""The split whose images, and all that resembles them, are never trained on."""
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class ComparedWith:
    """What items were compared with, and how."""

    kind: str
    """Of the embedding."""
    revision: int
    """Of the data set's images that are known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Likeness:
    """What an item resembled when it came, and whether a split of the data set has such an image."""

    kind: str
    """Of the embeddings that were compared."""
    nearest: str | None = None
    """SHA-256 of the image that it resembled most; None where there was nothing to compare it with."""
    name: str = ""
    """Of that image: its key in the data set, or else the id of its item."""
    distance: float | None = None
    """Cosine distance to it, 0 to 2; 0 also of the same file."""
    is_near: bool = False
    """Whether both count as copies of one picture."""
    seen_in: str = ""
    """Split of the data set that has a copy of the image, of several the first of test, val and train; "" for none."""
    checked: int = 0
    """Revision of the data set's images that ``seen_in`` is about."""

    def holds_out(self, sha256: str) -> bool:
        """Return whether an item is kept out of training: another image of the test split resembles it.

        An image of the data set keeps the split that it has there, so a corrected label of it is taken.

        Args:
            sha256: Of the item's image.
        """
        return self.seen_in == HELD_OUT and self.nearest != sha256


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """What comes with a new item into the store."""

    likeness: Likeness
    vector: bytes
    """Its embedding, float32, little-endian; zeros where the image shows nothing to compare."""


@dataclasses.dataclass(frozen=True, slots=True)
class SeenImage:
    """An image of the data set of a use case."""

    sha256: str
    split: str
    """train, val or test."""
    name: str
    """Its key in the data set; "" where only an earlier version of the data set had it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """An image that is in review, in the data set, or in both."""

    sha256: str
    item: str | None = None
    state: State | None = None
    """Of the item."""
    split: str = ""
    """That the data set has it in; "" where it does not."""
    name: str = ""
    """Its key in the data set, or else the name with which the item came."""


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    """An answer of a search: an image, and how far it is."""

    known: Known
    distance: float
    """Cosine distance, 0 to 2."""
    is_near: bool
    """Whether both count as copies of one picture."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unchecked:
    """An item that is in no data version and was compared with an earlier revision of the data set, or never."""

    item: str
    sha256: str
    vector: bytes | None
    likeness: Likeness | None


class LikenessStore(Protocol):
    """Keeps embeddings and what the data set has. Every method is one transaction; all raise `Unavailable`."""

    def digests(self, use_case: str, kind: str, last: int) -> Sequence[str]:
        """See `VectorSource`."""

    def after(self, use_case: str, kind: str, position: int, limit: int) -> Sequence[Stored]:
        """See `VectorSource`."""

    def revision(self, use_case: str) -> int:
        """Return the revision of the data set's images; 0 before the first."""

    def seen(self, use_case: str, splits: Collection[str], kind: str) -> list[tuple[SeenImage, bytes]]:
        """Return the images of these splits that have an embedding of this kind, by SHA-256."""

    def known(self, use_case: str, digests: Sequence[str]) -> Mapping[str, Known]:
        """Return what is known of images, by SHA-256; without those of which nothing is."""

    def at(self, use_case: str, kind: str, positions: Sequence[int]) -> Mapping[int, str]:
        """Return the SHA-256 of the images at positions."""

    def without_vector(self, use_case: str, kind: str, digests: Sequence[str]) -> set[str]:
        """Return those of ``digests`` that have no embedding of this kind."""

    def know(self, use_case: str, kind: str, images: Iterable[tuple[SeenImage, bytes | None]]) -> int:
        """Keep images of the data set with their embeddings, or the splits that they are in now.

        Args:
            images: With an embedding where they have none in the store.

        Returns:
            How many are new or in another split.
        """

    def unchecked(self, use_case: str, compared: ComparedWith, limit: int, *, decided: bool = False) -> list[Unchecked]:
        """Return items in no data version that were not compared with this revision by this kind.

        Args:
            decided: Only those that the next data version would take.
        """

    def check(self, use_case: str, found: Mapping[str, tuple[str, Compared]]) -> None:
        """Keep what became of unchecked items: by item, its SHA-256 and what it resembles."""
