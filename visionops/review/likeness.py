"""Types and port for known images that resemble an image, in review or in the data set of its use case."""

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
    "KnownImage",
    "Likeness",
    "LikenessStore",
    "Neighbour",
    "SeenImage",
    "UncheckedItem",
]

HELD_OUT = "test"
"""Split whose images, and all similar ones, are never trained on."""
SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class ComparedWith:
    """The embedding kind and data set revision that items were compared with."""

    kind: str
    """Kind of the embedding."""
    revision: int
    """Revision of the known images of the data set."""


@dataclasses.dataclass(frozen=True, slots=True)
class Likeness:
    """Most similar known image when an item was added, and the data set split that has a copy of it."""

    kind: str
    """Kind of the compared embeddings."""
    nearest: str | None = None
    """SHA-256 of the most similar image; None where there was nothing to compare with."""
    name: str = ""
    """Key of that image in the data set, or else the id of its item."""
    distance: float | None = None
    """Cosine distance to it, 0 to 2; 0 also for the same file."""
    is_near: bool = False
    """Whether both images count as copies of one picture."""
    seen_in: str = ""
    """Split of the data set that has a copy of the image; test before val before train, "" for none."""
    checked: int = 0
    """Revision of the data set's images that ``seen_in`` refers to."""

    def holds_out(self, sha256: str) -> bool:
        """Return whether an item is kept out of training because it resembles another image of the test split.

        An image of the data set keeps its split there, so a corrected label for it is used.

        Args:
            sha256: SHA-256 of the item's image.
        """
        return self.seen_in == HELD_OUT and self.nearest != sha256


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """Comparison result that is stored with a new item."""

    likeness: Likeness
    vector: bytes
    """Embedding of the image, float32, little-endian; zeros where the image shows nothing to compare."""


@dataclasses.dataclass(frozen=True, slots=True)
class SeenImage:
    """An image of the data set of a use case."""

    sha256: str
    split: str
    """Split: train, val or test."""
    name: str
    """Key in the data set; "" where only an earlier version of the data set had the image."""


@dataclasses.dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that is in review, in the data set, or in both."""

    sha256: str
    item: str | None = None
    state: State | None = None
    """State of the item."""
    split: str = ""
    """Split of the data set that has it; "" where none has."""
    name: str = ""
    """Key in the data set, or else the file name with which the item arrived."""


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    """Result of a search: an image and its distance."""

    known: KnownImage
    distance: float
    """Cosine distance, 0 to 2."""
    is_near: bool
    """Whether both images count as copies of one picture."""


@dataclasses.dataclass(frozen=True, slots=True)
class UncheckedItem:
    """Item in no data version that was compared with an earlier revision of the data set, or never."""

    item: str
    sha256: str
    vector: bytes | None
    likeness: Likeness | None


class LikenessStore(Protocol):
    """Store of embeddings and data set images. Every method is one transaction; all raise `Unavailable`."""

    def digests(self, use_case: str, kind: str, last: int) -> Sequence[str]:
        """See `VectorSource`."""

    def after(self, use_case: str, kind: str, position: int, limit: int) -> Sequence[Stored]:
        """See `VectorSource`."""

    def revision(self, use_case: str) -> int:
        """Return the revision of the data set's images; 0 before the first."""

    def seen(self, use_case: str, splits: Collection[str], kind: str) -> list[tuple[SeenImage, bytes]]:
        """Return the images of these splits that have an embedding of this kind, sorted by SHA-256."""

    def known(self, use_case: str, digests: Sequence[str]) -> Mapping[str, KnownImage]:
        """Return the known facts about images, keyed by SHA-256; unknown images are left out."""

    def at(self, use_case: str, kind: str, positions: Sequence[int]) -> Mapping[int, str]:
        """Return the SHA-256 of the images at these positions."""

    def without_vector(self, use_case: str, kind: str, digests: Sequence[str]) -> set[str]:
        """Return those of ``digests`` that have no embedding of this kind."""

    def know(self, use_case: str, kind: str, images: Iterable[tuple[SeenImage, bytes | None]]) -> int:
        """Store images of the data set with their embeddings, or update their splits.

        Args:
            images: Images, with an embedding where the store has none.

        Returns:
            Number of images that are new or in another split.
        """

    def unchecked(
        self, use_case: str, compared: ComparedWith, limit: int, *, decided: bool = False
    ) -> list[UncheckedItem]:
        """Return items in no data version that were not compared with this revision by this kind of embedding.

        Args:
            decided: Return only those that the next data version would include.
        """

    def check(self, use_case: str, found: Mapping[str, tuple[str, Compared]]) -> None:
        """Store the comparison results of unchecked items: by item, its SHA-256 and what it resembles."""
