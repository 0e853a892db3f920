"""Compute SHA-256 and size of each image's bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from visionops.data.dataset import Dataset
from visionops.data.files import describe_os_error
from visionops.errors import DataError

__all__ = ["hash_images"]

_BATCH = 64


def hash_images(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """Set ``sha256`` and ``num_bytes`` of images with a path and without a hash; leave missing images unchanged.

    Args:
        progress: Called from this thread with the images done and their total.

    Raises:
        DataError: A file exists but cannot be read.
    """
    paths, hashes, sizes = dataset.column("path"), dataset.column("sha256"), dataset.column("num_bytes")
    rows = [i for i, (path, known) in enumerate(zip(paths, hashes, strict=True)) if path and not known]
    batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    done = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        results = pool.map(lambda batch: _hash_batch([paths[i] for i in batch]), batches)
        for batch, digests in zip(batches, results, strict=True):
            for i, (digest, size) in zip(batch, digests, strict=True):
                hashes[i], sizes[i] = digest, size
            done += len(batch)
            if progress:
                progress(done, len(rows))
    return dataset.replace_column("sha256", hashes).replace_column("num_bytes", sizes)


def _hash_batch(paths: Sequence[str]) -> list[tuple[str, int]]:
    return [_hash_file(path) for path in paths]


def _hash_file(path: str) -> tuple[str, int]:
    try:
        # A buffered Python file object costs as much again as hashing 20 kB.
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            digest = hashlib.file_digest(file, "sha256")
            return digest.hexdigest(), file.tell()
    except FileNotFoundError:
        return "", -1
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe_os_error(error)}); check its permissions") from error
