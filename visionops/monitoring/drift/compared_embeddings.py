"""Compare embeddings as a whole by their maximum mean discrepancy, with a permutation test."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from visionops.monitoring.drift.comparison import Compared, read_column
from visionops.monitoring.drift.permutation import Draw, Numbers, choose, generator_of
from visionops.monitoring.drift.report import ColumnDrift, ColumnKind, Verdict
from visionops.monitoring.settings import DriftSettings

__all__ = ["Vectors", "compare_embeddings", "compare_vectors", "read_vectors"]

Vectors = npt.NDArray[np.float32]
"""(rows, components)."""

_COMPONENTS = 16
"""Maximum number of principal components; with more, noise hides a change."""


def compare_embeddings(reference: pa.Table, current: pa.Table, settings: DriftSettings) -> list[Compared]:
    """Compare the vectors of both tables, where either has any."""
    if not {"embedding"} <= {*reference.column_names} & {*current.column_names}:
        return []
    _, before = read_vectors(reference, None)
    _, after = read_vectors(current, before.shape[1] or None)
    return [compare_vectors(before, after, settings)] if len(before) or len(after) else []


def compare_vectors(before: Vectors, after: Vectors, settings: DriftSettings) -> Compared:
    """Compute the MMD (Gretton et al., A kernel two-sample test, 2012) with an RBF kernel of median width."""
    column = ColumnDrift(
        name="embedding",
        kind=ColumnKind.EMBEDDING,
        verdict=Verdict.TOO_FEW,
        reference_images=len(before),
        current_images=len(after),
        test="MMD, permutation",
        min_effect=settings.min_mmd,
    )
    if min(len(before), len(after)) < settings.min_images:
        return Compared(column)
    rng = generator_of(column.name, settings.seed)
    first, second = (_draw_vectors(vectors, settings.embedding_images, rng) for vectors in (before, after))
    kernel = _kernel(_whiten(np.concatenate([first, second])))
    found, effect = _mmd(kernel, len(first))
    column = column.model_copy(update={"statistic": found, "effect": effect})
    return Compared(column, _exchanges(kernel, len(first), rng))


def read_vectors(table: pa.Table, length: int | None) -> tuple[npt.NDArray[np.int64], Vectors]:
    """Return the row numbers and vectors of ``length`` (the most frequent when None) without missing values."""
    lists = read_column(table, "embedding", pa.list_(pa.float32()))
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    if length is None:
        length = int(np.bincount(lengths[lengths > 0]).argmax()) if (lengths > 0).any() else 0
    if not length:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    rows = np.flatnonzero(lengths == length)
    if len(rows) < len(lists):
        lists = lists.filter(pa.array(lengths == length))
    flat: Vectors = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    vectors = flat.reshape(-1, length)
    finite = np.isfinite(vectors).all(axis=1)
    return (rows, vectors) if finite.all() else (rows[finite], vectors[finite])


def _draw_vectors(vectors: Vectors, number: int, rng: np.random.Generator) -> Numbers:
    """Draw vectors at random but independently of the row order, by sorting them by their bytes first."""
    rows = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.itemsize * vectors.shape[1]))).ravel()
    order = np.argsort(rows, kind="stable")
    if len(order) > number:
        order = order[np.sort(rng.choice(len(order), number, replace=False))]
    return vectors[order].astype(np.float64)


def _whiten(vectors: Numbers) -> Numbers:
    """Return principal components with unit spread, so that the largest does not hide the rest: (rows, components)."""
    left, size, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    kept = min(int((size > 1e-4 * max(size[0], 1e-6)).sum()), _COMPONENTS)
    return np.asarray(left[:, :kept] * np.sqrt(len(vectors)))


def _kernel(vectors: Numbers) -> Numbers:
    """Return the RBF kernel matrix, (rows, rows)."""
    square = (vectors**2).sum(axis=1)
    distance = np.maximum(square[:, None] + square - 2 * vectors @ vectors.T, 0.0)
    median = float(np.median(distance[np.triu_indices(len(distance), 1)]))
    return np.asarray(np.exp(-distance / median)) if median > 0 else (distance <= 0).astype(np.float64)


def _mmd(kernel: Numbers, n: int) -> tuple[float, float]:
    """Return the statistic of `_exchanges` for the first ``n`` rows against the others, and the unbiased MMD."""
    m = len(kernel) - n
    own, other, cross = kernel[:n, :n], kernel[n:, n:], kernel[:n, n:].mean()
    found = own.mean() + other.mean() - 2 * cross
    unbiased = (own.sum() - n) / (n * (n - 1)) + (other.sum() - m) / (m * (m - 1)) - 2 * cross
    return float(found), float(np.sqrt(max(unbiased, 0.0)))


def _exchanges(kernel: Numbers, n: int, rng: np.random.Generator) -> Draw:
    """Return the squared biased MMD of random halves. A centred kernel needs one product for each draw, not three."""
    mean = kernel.mean(axis=0)
    centred = (kernel - mean - mean[:, None] + mean.mean()).astype(np.float32)
    scale = (1 / n + 1 / (len(kernel) - n)) ** 2
    smaller = min(n, len(kernel) - n)

    def draw(size: int) -> Numbers:
        chosen = choose(len(kernel), smaller, size, rng, np.float32)
        return np.asarray(scale * np.einsum("ij,ij->i", chosen @ centred, chosen), np.float64)

    return draw
