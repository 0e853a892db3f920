"""Find nearest neighbours among embeddings: exactly in small collections, by a USearch graph in large ones.

Embeddings have positions 1, 2, 3, … in the order in which they came. An index only grows.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from visionops.similarity.embedding import Vector

# Imported here, because a small collection needs no graph.
if TYPE_CHECKING:
    from usearch.index import Index

__all__ = ["EXACT", "Hit", "VectorIndex"]

EXACT: Final = 4096
"""Number of embeddings up to which the search compares all of them, so that no result is missed and no graph is
built."""
_CONNECTIVITY: Final = 16
_EXPANSION_ADD: Final = 128
_EXPANSION_SEARCH: Final = 128
"""Number of candidates of a graph search. Copies of one picture hide one another from a narrower search."""


@dataclasses.dataclass(frozen=True, slots=True)
class Hit:
    """An embedding that was found, with its distance."""

    position: int
    distance: float
    """Cosine distance, 0 to 2."""


class VectorIndex:
    """Index of embeddings of one kind. Not safe to use from several threads at once.

    Args:
        size: Numbers in an embedding.
        exact: Number of embeddings up to which the search is exact.
    """

    def __init__(self, size: int, exact: int = EXACT) -> None:
        self.size = size
        self._exact = exact
        self._flat: Vector = np.empty((0, size), dtype=np.float32)
        self._graph: Index | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def is_graph(self) -> bool:
        """Return whether the search uses a graph, which takes long to build."""
        return self._graph is not None

    def add(self, vectors: npt.NDArray[np.float32]) -> None:
        """Append embeddings.

        Args:
            vectors: float32 (N, size), each of length 1 or all zeros.

        Raises:
            ValueError: They have another size.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.size:
            raise ValueError(f"embeddings have the shape {vectors.shape}, expected (N, {self.size})")
        if self._graph is None and self._count + len(vectors) <= self._exact:
            self._append(vectors)
        else:
            if self._graph is None:
                self._graph = new_graph(self.size)
                _extend(self._graph, 1, self._flat[: self._count])
                self._flat = np.empty((0, self.size), dtype=np.float32)
            _extend(self._graph, self._count + 1, vectors)
        self._count += len(vectors)

    def nearest(self, vector: Vector, count: int) -> list[Hit]:
        """Return the ``count`` nearest embeddings, nearest first; ties by position."""
        if not self._count or not vector.any():
            return []
        if self._graph is None:
            distances = 1 - self._flat[: self._count] @ vector
            count = min(count, self._count)
            rows = np.argpartition(distances, count - 1)[:count]
            positions, found = rows + 1, distances[rows]
        else:
            matches = self._graph.search(vector, min(count, self._count), threads=1)
            positions, found = np.asarray(matches.keys), np.asarray(matches.distances)
        pairs = sorted(zip(found.tolist(), positions.tolist(), strict=True))
        return [Hit(int(position), max(0.0, float(distance))) for distance, position in pairs]

    def to_bytes(self) -> bytes:
        """Return the graph.

        Raises:
            ValueError: The index has no graph.
        """
        if self._graph is None:
            raise ValueError("a small index has no graph")
        saved = self._graph.save()
        assert saved is not None
        return bytes(saved)

    @classmethod
    def from_bytes(cls, size: int, graph: bytes, exact: int = EXACT) -> VectorIndex:
        """Return an index of what `to_bytes` returned.

        Args:
            graph: Complete graph; USearch does not check its input.

        Raises:
            ValueError: The graph has another size.
        """
        found = cls(size, exact)
        found._graph = new_graph(size)
        found._graph.load(graph)
        if found._graph.ndim != size:
            raise ValueError(f"a graph of embeddings of {found._graph.ndim} numbers, expected {size}")
        found._count = len(found._graph)
        return found

    def _append(self, vectors: npt.NDArray[np.float32]) -> None:
        wanted = self._count + len(vectors)
        if wanted > len(self._flat):
            grown = np.empty((min(self._exact, max(wanted, 2 * len(self._flat), 64)), self.size), dtype=np.float32)
            grown[: self._count] = self._flat[: self._count]
            self._flat = grown
        self._flat[self._count : wanted] = vectors


def new_graph(size: int) -> Index:
    """Return an empty graph. For unit vectors the inner product is the cosine, and zeros are near to nothing."""
    from usearch.index import Index

    return Index(
        ndim=size,
        metric="ip",
        dtype="f32",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )


def _extend(graph: Index, first: int, vectors: npt.NDArray[np.float32]) -> None:
    # One thread, so that the same embeddings give the same graph.
    keys = np.arange(first, first + len(vectors), dtype=np.uint64)
    graph.add(keys, np.ascontiguousarray(vectors), threads=1)
