"""Index of a table that only grows, while several processes append to it."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from visionops.data.files import describe_os_error
from visionops.similarity.cache import DamagedCache, read_cache, write_cache
from visionops.similarity.embedding import Vector
from visionops.similarity.index import Hit, VectorIndex

__all__ = ["GrowingIndex", "Stored", "VectorSource"]

_log = logging.getLogger("visionops.similarity")
_PAGE = 2000
_UNSAVED = 200
"""Number of unsaved embeddings, or a fiftieth of all if that is more, after which the graph is saved again."""


class Stored(NamedTuple):
    """An embedding in the table."""

    position: int
    """Position 1, 2, 3, … without gaps. A position is visible only after all before it."""
    sha256: str
    vector: bytes
    """float32, little-endian."""


class VectorSource(Protocol):
    """Table of embeddings."""

    def digests(self, last: int) -> Iterable[str]:
        """Return the SHA-256 of the images at positions 1 to ``last``, in order; fewer where the table is shorter."""

    def after(self, position: int, limit: int) -> Sequence[Stored]:
        """Return at most ``limit`` embeddings behind a position, in order."""


class GrowingIndex:
    """Index of a table's embeddings of one kind. Safe to use from several threads.

    Args:
        kind: Kind of the embeddings.
        size: Numbers in an embedding.
        path: Path of the cache; its folder may be missing.
    """

    def __init__(self, source: VectorSource, kind: str, size: int, path: Path) -> None:
        self._source, self._kind, self._size, self._path = source, kind, size, path
        self._lock = threading.Lock()
        self._index: VectorIndex | None = None
        self._images = hashlib.sha256()
        self._saved = 0

    def nearest(self, vector: Vector, count: int) -> list[Hit]:
        """Return the nearest of all embeddings that the table has now, nearest first."""
        with self._lock:
            return self._caught_up().nearest(vector, count)

    def __len__(self) -> int:
        with self._lock:
            return len(self._caught_up())

    def close(self) -> None:
        """Save the graph if enough embeddings were added."""
        with self._lock:
            if self._index is not None:
                self._save_if_grown(self._index)

    def _caught_up(self) -> VectorIndex:
        index = self._index if self._index is not None else self._opened()
        self._index = index
        while rows := self._source.after(len(index), _PAGE):
            if [row.position for row in rows] != [*range(len(index) + 1, len(index) + len(rows) + 1)]:
                raise AssertionError(f"embeddings behind position {len(index)} have a gap")
            found = np.frombuffer(b"".join(row.vector for row in rows), dtype="<f4").reshape(len(rows), self._size)
            index.add(found)
            for row in rows:
                self._images.update(row.sha256.encode())
        # Not saved page by page: a build of 100,000 would write the file fifty times.
        self._save_if_grown(index)
        return index

    def _opened(self) -> VectorIndex:
        """Return the cached index if its content matches the start of the table; else an empty index."""
        index, images, problem = VectorIndex(self._size), hashlib.sha256(), ""
        try:
            found = read_cache(self._path, self._kind, self._size)
        except DamagedCache as reason:
            found, problem = None, str(reason)
        if found is not None:
            for digest in self._source.digests(len(found[0])):
                images.update(digest.encode())
            if images.hexdigest() == found[1]:
                index = found[0]
            else:
                images, problem = hashlib.sha256(), "has other images than the database"
        if problem:
            _log.warning("%s: %s; it is built again from the database", self._path, problem)
        self._images, self._saved = images, len(index)
        return index

    def _save_if_grown(self, index: VectorIndex) -> None:
        if not index.is_graph or len(index) - self._saved < max(_UNSAVED, len(index) // 50):
            return
        try:
            write_cache(self._path, self._kind, index, self._images.hexdigest())
        except OSError as error:
            # The database has everything; without a cache only the next opening takes longer.
            _log.warning(
                "%s: cannot be written (%s); set VISIONOPS_REVIEW_INDEX to a folder that can be written",
                self._path,
                describe_os_error(error),
            )
        self._saved = len(index)
