"""Measure the search for similar images among 100,000 embeddings, through the database as in a service.

python -m benchmarks.similarity                 # some minutes on an idle machine
python -m benchmarks.similarity --count 5000    # a quick trial
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.rows import Row, print_rows
from visionops.review.checks import digest_of
from visionops.review.items import UseCase
from visionops.review.likeness import SeenImage
from visionops.review_store.database import Database
from visionops.review_store.likeness import SqlLikenessStore
from visionops.review_store.store import SqlReviewStore
from visionops.similarity.embedding import ShapeEmbedder
from visionops.similarity.growing import GrowingIndex, Stored
from visionops.tasks.labelling import LabelScheme

__all__ = ["main"]

_CASE = "parts"
_KIND = ShapeEmbedder.kind
_PARTS = 200
"""Number of part types, around which the embeddings cluster with about the distances of castings."""
_SPREAD = 0.35
_COPY = 0.05
"""Distance of a query from the image that it copies; vectors have length 1."""
_QUERIES = 1000
_INSERTS = 200
_BATCH = 1000
_Vectors = npt.NDArray[np.float32]


def main() -> int:
    """Measure and print.

    Returns:
        1 when a target is missed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similarity", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of embeddings")
    options = parser.parse_args()
    size = ShapeEmbedder().size
    vectors = _embeddings(options.count, size)
    rng = np.random.default_rng(1)
    originals = vectors[rng.integers(0, len(vectors), _QUERIES)]
    queries = _unit(originals + rng.normal(0, _COPY / np.sqrt(size), originals.shape))
    with tempfile.TemporaryDirectory() as name:
        rows = _measure(Path(name), vectors, queries)
    print_rows(f"Similar images: {options.count:,} embeddings of {size} numbers, SQLite, one thread", rows)
    return int(any(row.met is False for row in rows))


def _measure(folder: Path, vectors: _Vectors, queries: _Vectors) -> list[Row]:
    database = Database(str(folder / "review.db"))
    SqlReviewStore(database).put_use_case(UseCase(_CASE, "detection", LabelScheme(class_names=("dent",))))
    store = SqlLikenessStore(database)
    for start in range(0, len(vectors), _BATCH):
        store.know(_CASE, _KIND, [_image(start + n, v) for n, v in enumerate(vectors[start : start + _BATCH])])

    path = folder / "index" / "parts.usearch"
    index = GrowingIndex(_Source(store), _KIND, vectors.shape[1], path)
    built = _seconds(lambda: index.nearest(queries[0], 1))
    index.close()
    index = GrowingIndex(_Source(store), _KIND, vectors.shape[1], path)
    opened = _seconds(lambda: index.nearest(queries[0], 1))

    exact, limit = _brute_force(vectors, queries)
    found, took = [], []
    for query in queries:
        began = time.perf_counter()
        (best,) = index.nearest(query, 1)
        took.append(time.perf_counter() - began)
        found.append(best.position - 1)
    # An equally near image counts as found, because copies of one picture may have equal distances.
    nearest, answered = (np.einsum("nk,nk->n", vectors[rows], queries) for rows in (exact, found))
    recall = float((answered >= nearest - 1e-6).mean())

    kept_rows, inserted, flushed = [], [], []
    for number, vector in enumerate(_embeddings(_INSERTS, vectors.shape[1], seed=2)):
        image = _image(len(vectors) + number, vector)
        kept_rows.append(_seconds(functools.partial(store.know, _CASE, _KIND, [image])))
        inserted.append(_seconds(functools.partial(index.nearest, vector, 1)))
        flushed.append(_seconds(functools.partial(_flush, folder / "flush", vector.tobytes())))
    database.close()

    # In a service the embedding is part of the item's transaction, so its row needs no separate flush.
    raw, kept = vectors.nbytes / 2**20, path.stat().st_size / 2**20 if path.exists() else 0.0
    ms_query, ms_insert = statistics.median(took) * 1000, statistics.median(inserted) * 1000
    return [
        Row("limit: compare with each, numpy", limit * 1000, "ms"),
        Row("query, median", ms_query, "ms", "≤ 10", ms_query <= 10),
        Row("query, 99th percentile", float(np.percentile(took, 99)) * 1000, "ms"),
        Row("recall@1 against brute force", recall, "", "≥ 0.99", recall >= 0.99),
        Row("limit: append and flush a file", statistics.median(flushed) * 1000, "ms"),
        Row("row in a transaction of its own, median", statistics.median(kept_rows) * 1000, "ms"),
        Row("insert and query, median", ms_insert, "ms", "≤ 5", ms_insert <= 5),
        Row("insert and query, 99th percentile", float(np.percentile(inserted, 99)) * 1000, "ms"),
        Row("limit: the numbers alone", raw, "MB"),
        Row("graph on disk", kept, "MB"),
        Row("database on disk", (folder / "review.db").stat().st_size / 2**20, "MB"),
        Row("limit: read and hash the graph", _read_limit(path), "s"),
        Row("open", opened, "s"),
        Row("build from the database", built, "s"),
    ]


class _Source:
    """Source of the use case's embeddings."""

    def __init__(self, store: SqlLikenessStore) -> None:
        self._store = store

    def digests(self, last: int) -> list[str]:
        return list(self._store.digests(_CASE, _KIND, last))

    def after(self, position: int, limit: int) -> list[Stored]:
        return list(self._store.after(_CASE, _KIND, position, limit))


def _embeddings(count: int, size: int, seed: int = 0) -> _Vectors:
    centres = _unit(np.random.default_rng(0).normal(size=(_PARTS, size)))
    rng = np.random.default_rng(seed)
    spread = rng.normal(0, _SPREAD / np.sqrt(size), (count, size))
    return _unit(centres[rng.integers(0, _PARTS, count)] + spread)


def _unit(vectors: npt.NDArray[np.floating]) -> _Vectors:
    unit: _Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _image(number: int, vector: _Vectors) -> tuple[SeenImage, bytes]:
    return SeenImage(digest_of("image", number), "train", f"{number}.jpg"), vector.astype("<f4").tobytes()


def _brute_force(vectors: _Vectors, queries: _Vectors) -> tuple[list[int], float]:
    """Return the nearest rows, and the median seconds of a query."""
    took = [_seconds(functools.partial(np.dot, vectors, query)) for query in queries[:50]]
    rows: list[int] = []
    for start in range(0, len(queries), 50):
        rows += (queries[start : start + 50] @ vectors.T).argmax(axis=1).tolist()
    return rows, statistics.median(took)


def _read_limit(path: Path) -> float:
    import hashlib

    return _seconds(lambda: hashlib.sha256(path.read_bytes())) if path.exists() else 0.0


def _flush(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
