"""Find images that resemble an image, and hold back items that resemble the test split.

The nearest image is found in an index, which may miss one in a hundred in a large collection. Whether an image
resembles one of test or val is decided by comparing it with each of them, because a miss would leak the test split.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from visionops.errors import ImageError
from visionops.review.checks import digest_of
from visionops.review.errors import NotFound
from visionops.review.likeness import (
    Compared,
    ComparedWith,
    KnownImage,
    Likeness,
    LikenessStore,
    Neighbour,
    SeenImage,
    UncheckedItem,
)
from visionops.review.ports import ImageStore
from visionops.similarity.embedding import Embedder, Vector
from visionops.similarity.growing import GrowingIndex, Stored

__all__ = ["MOST_SIMILAR", "Similar"]

MOST_SIMILAR = 100
"""Maximum number of neighbours in an answer."""
_JUDGING = ("test", "val")
"""Splits that evaluate or select a model; the first match counts."""
_BATCH = 200
_LOOKED_AT = 8
"""Number of neighbours to look at: the nearest may be a copy in review, with one of train behind it."""


@dataclasses.dataclass(frozen=True)
class _Judging:
    """Images of val and test at one revision."""

    revision: int
    splits: tuple[str, ...]
    vectors: Vector
    """float32 (N, size)."""

    def split_near(self, vector: Vector, near: float) -> str:
        """Return the first split of `_JUDGING` that has an image within the distance; "" for none."""
        if not vector.any() or not self.splits:
            return ""
        close = np.flatnonzero(1 - self.vectors @ vector <= near)
        found = {self.splits[row] for row in close}
        return next((split for split in _JUDGING if split in found), "")


@dataclasses.dataclass(frozen=True)
class _Source:
    """Embeddings of a use case, in the form that `GrowingIndex` reads."""

    store: LikenessStore
    use_case: str
    kind: str

    def digests(self, last: int) -> Sequence[str]:
        """See `VectorSource`."""
        return self.store.digests(self.use_case, self.kind, last)

    def after(self, position: int, limit: int) -> Sequence[Stored]:
        """See `VectorSource`."""
        return self.store.after(self.use_case, self.kind, position, limit)


class Similar:
    """Comparison of images of a use case. Safe to use from several threads and processes.

    All methods raise `Unavailable` where the database or the images cannot be reached or written.

    Args:
        folder: Folder of the caches. It may be missing, and may be removed at any time.
        place: Place of the database, so that two databases share no cache.
    """

    def __init__(
        self, store: LikenessStore, images: ImageStore, embedder: Embedder, folder: Path, place: str = ""
    ) -> None:
        self.embedder = embedder
        self._store, self._images, self._folder, self._place = store, images, folder, place
        self._lock = threading.Lock()
        self._indexes: dict[str, GrowingIndex] = {}
        self._judging: dict[str, _Judging] = {}

    def close(self) -> None:
        """Save the indexes that have grown."""
        for index in self._indexes.values():
            index.close()

    def find(self, use_case: str, data: bytes, limit: int = 10) -> list[Neighbour]:
        """Return the most similar images, nearest first, including the same file where it is known.

        Args:
            data: The encoded image.
            limit: 1 to `MOST_SIMILAR`.

        Raises:
            ImageError: The bytes are no usable image.
        """
        limit = min(max(1, limit), MOST_SIMILAR)
        vector = self.embedder.embed(data)
        distances = self._nearest(use_case, vector, limit)
        # The same file comes first. It is not in the index where it shows nothing to compare.
        distances = {hashlib.sha256(data).hexdigest(): 0.0} | distances
        known = self._store.known(use_case, list(distances))
        found = [Neighbour(known[d], far, far <= self.embedder.near) for d, far in distances.items() if d in known]
        return found[:limit]

    def compare(self, use_case: str, sha256: str, data: bytes) -> Compared:
        """Return what a new image resembles; an image that cannot be decoded resembles nothing."""
        try:
            vector = self.embedder.embed(data)
        except ImageError:
            vector = np.zeros(self.embedder.size, dtype=np.float32)
        return Compared(self._likeness(use_case, sha256, vector), _to_bytes(vector))

    def index(
        self,
        use_case: str,
        images: Sequence[tuple[SeenImage, Path | None]],
        progress: Callable[[int], None] | None = None,
    ) -> tuple[int, list[str]]:
        """Register the images of the data set and their splits. Images that are already registered are skipped quickly.

        Args:
            images: Images with their files. Without a file, only an identical file is recognized, unless it is in
                review.
            progress: Called with the number of images processed so far.

        Returns:
            Number of images that are new or in another split, and a line for each image that cannot be read.
        """
        changed, refused, done = 0, [], 0
        for batch in _batches(images):
            new = self._store.without_vector(use_case, self.embedder.kind, [seen.sha256 for seen, _ in batch])
            rows: list[tuple[SeenImage, bytes | None]] = []
            for seen, path in batch:
                try:
                    # A file that occurs twice is embedded once.
                    vector = _to_bytes(self.embedder.embed(path.read_bytes())) if path and seen.sha256 in new else None
                    new.discard(seen.sha256)
                    rows.append((seen, vector))
                except (ImageError, OSError) as error:
                    refused.append(f"{seen.name}: {error}")
            changed += self._store.know(use_case, self.embedder.kind, rows)
            done += len(batch)
            if progress:
                progress(done)
        return changed, refused

    def unknown(self, use_case: str, digests: Sequence[str]) -> set[str]:
        """Return the SHA-256 of images that have no embedding yet. `index` reads only the files of these."""
        kind, wanted = self.embedder.kind, list(digests)
        parts = [wanted[first : first + _BATCH] for first in range(0, len(wanted), _BATCH)]
        return {digest for part in parts for digest in self._store.without_vector(use_case, kind, part)}

    def recheck(self, use_case: str) -> int:
        """Compare items that are in no data version with the current data set; return their number."""
        return self._check(use_case, self._present(use_case))

    def check_decided(self, use_case: str) -> ComparedWith:
        """Compare the items that the next data version would include with the current data set.

        Returns:
            The revision and kind that they were compared with. Items decided later may have an earlier one.
        """
        present = self._present(use_case)
        self._check(use_case, present, decided=True)
        return present

    def _present(self, use_case: str) -> ComparedWith:
        return ComparedWith(self.embedder.kind, self._store.revision(use_case))

    def _check(self, use_case: str, present: ComparedWith, *, decided: bool = False) -> int:
        done = 0
        while found := self._store.unchecked(use_case, present, _BATCH, decided=decided):
            self._store.check(use_case, {one.item: (one.sha256, self._recheck(use_case, one)) for one in found})
            done += len(found)
        return done

    def _recheck(self, use_case: str, item: UncheckedItem) -> Compared:
        if item.vector is None:
            try:
                return self.compare(use_case, item.sha256, self._images.read(item.sha256))
            except NotFound:  # the image is lost, so it can be exported by nobody
                return Compared(self._likeness(use_case, item.sha256, np.zeros(self.embedder.size, np.float32)), b"")
        vector = np.frombuffer(item.vector, dtype="<f4")
        new = self._likeness(use_case, item.sha256, vector)
        before = item.likeness
        if before is None or before.kind != new.kind:
            return Compared(new, item.vector)
        # The first comparison result stays, because people have seen it.
        return Compared(dataclasses.replace(before, seen_in=new.seen_in, checked=new.checked), item.vector)

    def _likeness(self, use_case: str, sha256: str, vector: Vector) -> Likeness:
        kind, near = self.embedder.kind, self.embedder.near
        judging = self._judging_images(use_case)
        distances = {d: far for d, far in self._nearest(use_case, vector, _LOOKED_AT).items() if d != sha256}
        known = self._store.known(use_case, [sha256, *distances])
        own = known.get(sha256, KnownImage(sha256))
        splits = {known[d].split for d, far in distances.items() if d in known and far <= near}
        splits |= {own.split, judging.split_near(vector, near)}
        seen_in = next((split for split in (*_JUDGING, "train") if split in splits), "")
        if own.split:
            return Likeness(kind, sha256, own.name, 0.0, is_near=True, seen_in=seen_in, checked=judging.revision)
        nearest = next((digest for digest in distances if digest in known), None)
        if nearest is None:
            return Likeness(kind, seen_in=seen_in, checked=judging.revision)
        other, distance = known[nearest], distances[nearest]
        name = other.name if other.split or other.item is None else other.item
        return Likeness(
            kind, nearest, name, distance, is_near=distance <= near, seen_in=seen_in, checked=judging.revision
        )

    def _nearest(self, use_case: str, vector: Vector, count: int) -> dict[str, float]:
        """Return distances by SHA-256, nearest first."""
        hits = self._index(use_case).nearest(vector, count)
        digests = self._store.at(use_case, self.embedder.kind, [hit.position for hit in hits])
        return {digests[hit.position]: hit.distance for hit in hits if hit.position in digests}

    def _index(self, use_case: str) -> GrowingIndex:
        kind = self.embedder.kind
        with self._lock:
            if use_case not in self._indexes:
                # Named by a digest, because the name of a use case may be any text.
                name = digest_of("similar", self._place, use_case, kind)[:32]
                source = _Source(self._store, use_case, kind)
                path = self._folder / f"{name}.usearch"
                self._indexes[use_case] = GrowingIndex(source, kind, self.embedder.size, path)
            return self._indexes[use_case]

    def _judging_images(self, use_case: str) -> _Judging:
        revision = self._store.revision(use_case)
        found = self._judging.get(use_case)
        if found is None or found.revision != revision:
            # Read after the revision: the source may have grown, and is then read again.
            rows = self._store.seen(use_case, _JUDGING, self.embedder.kind)
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), dtype="<f4")
            splits = tuple(seen.split for seen, _ in rows)
            found = _Judging(revision, splits, vectors.reshape(len(rows), self.embedder.size))
            self._judging[use_case] = found
        return found


def _to_bytes(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()


def _batches(images: Iterable[tuple[SeenImage, Path | None]]) -> Iterator[list[tuple[SeenImage, Path | None]]]:
    found = iter(images)
    while batch := list(itertools.islice(found, _BATCH)):
        yield batch
