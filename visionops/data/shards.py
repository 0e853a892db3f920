"""Pack image bytes into shards, for artifact stores that are not a folder on this machine.

Images are concatenated, uncompressed, into shards of about 64 MB, because a store answers a thousand small requests
slower than one large request. The first bits of an image's SHA-256 decide its shard, and a shard is named by its
content: adding an image changes one shard, and the others are not sent again. File operations are passed in, so that
any store works.

    {folder}/{digest}.shard    the bytes of images, in order of their SHA-256
    {folder}/{digest}.done     empty; written after the shard, so that a partial shard is never taken for a complete one
    {folder}/{digest}.json     an index: {"version": 1, "shards": {digest: [[sha256, num_bytes], …]}}
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Protocol

from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error
from visionops.errors import DataError

__all__ = [
    "SHARD_BYTES",
    "Open",
    "Shards",
    "StoredDataset",
    "pack_shards",
    "read_index",
    "stored_dataset",
    "unpack_shards",
]

SHARD_BYTES = 64 * 1024 * 1024
"""Approximate maximum size of a shard; the average is between half of it and all of it."""

_VERSION = 1
_READERS = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Entries = list[tuple[str, int]]
Shards = dict[str, _Entries]
"""Maps a shard name to the SHA-256 and the number of bytes of each image, in order."""


@dataclasses.dataclass(frozen=True)
class StoredDataset:
    """A data set whose images are fetched to this machine only when needed."""

    tables: Dataset
    """Data set whose ``path`` column has the images that need not be fetched; "" for all others."""
    fetch: Callable[[Dataset], Dataset]
    """Returns the given images with paths on this machine; "" for bytes that are not stored.

    Raises `DataError` as `unpack_shards` does.
    """

    def only(self, *splits: Split) -> Dataset:
        """Return the whole data set with only the images of the given splits on this machine.

        Raises:
            DataError: As in `unpack_shards`.
        """
        wanted = {split.value for split in splits}
        rows = [row for row, split in enumerate(self.tables.column("split")) if split in wanted]
        paths = self.tables.column("path")
        for row, path in zip(rows, self.fetch(self.tables.take(rows)).column("path"), strict=True):
            paths[row] = path
        return self.tables.replace_column("path", paths)


class Open(Protocol):
    """Opens a file in the store, like ``fileio.open`` or fsspec: mode ``rb`` or ``wb``."""

    def __call__(self, path: str, mode: str) -> IO[Any]:
        """Return the open file."""


def pack_shards(
    dataset: Dataset,
    folder_uri: str,
    open_: Open,
    exists: Callable[[str], bool],
    *,
    stored: Shards | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Store the bytes of all available images, each content once, however many images have it.

    Args:
        dataset: Hashed data set (`visionops.data.hashing.hash_images`).
        folder_uri: A folder in the store; data sets may share it.
        stored: Shards that are already in the folder: their images are not read, and need not be available.
        progress: Called with the bytes done and their total, including bytes that were stored already.

    Returns:
        The name of the index, for `unpack_shards`.

    Raises:
        DataError: An image is not hashed, has changed, or cannot be read; or the store cannot be written.
    """
    there = {digest: name for name, entries in (stored or {}).items() for digest, _ in entries}
    reused = {there[digest] for digest in dataset.column("sha256") if digest in there}
    paths: dict[str, str] = {}
    sizes: dict[str, int] = {}
    columns = (dataset.column(c) for c in ("key", "path", "sha256", "num_bytes"))
    for key, path, digest, size in zip(*columns, strict=True):
        if not path or digest in there:
            continue
        if not digest:
            raise DataError(f"{key}: has no hash; hash the data set before it is stored")
        paths.setdefault(digest, path)
        sizes[digest] = size
    shards = _plan(sizes, shard_bytes)
    total, done = sum(sizes.values()), 0
    for name, entries in shards.items():
        marker = f"{folder_uri}/{name}.done"
        with _store_errors(folder_uri, "written"):
            if not exists(marker):
                with open_(f"{folder_uri}/{name}.shard", "wb") as shard:
                    for digest, size in entries:
                        shard.write(_read_image(paths[digest], digest, size))
                with open_(marker, "wb") as file:
                    file.write(b"")
        done += sum(size for _, size in entries)
        if progress:
            progress(done, total)
    shards |= {name: (stored or {})[name] for name in reused}
    index = json.dumps({"version": _VERSION, "shards": shards}, sort_keys=True).encode()
    name = hashlib.sha256(index).hexdigest()[:32]
    with _store_errors(folder_uri, "written"), open_(f"{folder_uri}/{name}.json", "wb") as file:
        file.write(index)
    return name


def _plan(sizes: dict[str, int], shard_bytes: int) -> dict[str, _Entries]:
    total, bits = sum(sizes.values()), 0
    while total >> bits > shard_bytes and bits < 32:
        bits += 1
    buckets: dict[int, _Entries] = {}
    for digest in sorted(sizes):
        buckets.setdefault(int(digest[:8], 16) >> (32 - bits), []).append((digest, sizes[digest]))
    return {_name(entries): entries for entries in buckets.values()}


def _name(entries: _Entries) -> str:
    return hashlib.sha256("\n".join(f"{digest} {size}" for digest, size in entries).encode()).hexdigest()[:32]


def _read_image(path: str, digest: str, size: int) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe_os_error(error)}); run again with --no-cache") from error
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{path}: changed while the pipeline ran; run again with --no-cache")
    return data


@contextlib.contextmanager
def _store_errors(folder_uri: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder_uri}: cannot be {what} ({describe_os_error(error)}); check the artifact store"
        ) from error


def unpack_shards(dataset: Dataset, folder_uri: str, index: str, open_: Open, cache: Path) -> Dataset:
    """Fetch the images of ``dataset`` that the cache lacks, and set its paths to the cache.

    Args:
        dataset: Its ``path`` column is replaced; images whose bytes were not stored get "".
        index: Result of `pack_shards`.
        cache: A folder on this machine; any number of processes may use it at once.

    Raises:
        DataError: The store or the cache fails, or the bytes have changed.
    """
    return stored_dataset(dataset, folder_uri, read_index(folder_uri, index, open_), open_, cache).fetch(dataset)


def stored_dataset(dataset: Dataset, folder_uri: str, shards: Shards, open_: Open, cache: Path) -> StoredDataset:
    """Return the data set like `unpack_shards`, but fetch images only when needed.

    Args:
        shards: Result of `read_index`.
    """
    stored = {digest for entries in shards.values() for digest, _ in entries}
    objects = cache.absolute() / "objects"

    def fetch(images: Dataset) -> Dataset:
        hashes = images.column("sha256")
        wanted = stored.intersection(hashes)
        lacking = {digest for digest in wanted if not _object(objects, digest).is_file()}
        needed = {name: entries for name, entries in shards.items() if any(digest in lacking for digest, _ in entries)}
        with ThreadPoolExecutor(max_workers=_READERS) as pool:
            jobs = [pool.submit(_fetch, folder_uri, name, e, open_, objects, lacking) for name, e in needed.items()]
            for job in jobs:
                job.result()
        return images.replace_column("path", [str(_object(objects, h)) if h in wanted else "" for h in hashes])

    return StoredDataset(dataset.replace_column("path", [""] * dataset.num_images), fetch)


def read_index(folder_uri: str, index: str, open_: Open) -> Shards:
    """Return which images are in which shards.

    Args:
        index: Result of `pack_shards`.

    Raises:
        DataError: The index cannot be read.
    """
    with _store_errors(f"{folder_uri}/{index}.json", "read"), open_(f"{folder_uri}/{index}.json", "rb") as file:
        data = file.read()
    try:
        raw = json.loads(data)
        version = raw["version"]
        shards = {name: [(str(d), int(n)) for d, n in entries] for name, entries in raw["shards"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder_uri}/{index}.json: not an index of shards ({error}); run with --no-cache") from error
    # Hashes become file names, so nothing else is accepted.
    sound = all(_SHA256.fullmatch(d) and n >= 0 for entries in shards.values() for d, n in entries)
    if version != _VERSION or not sound:
        raise DataError(f"{folder_uri}/{index}.json: not an index of version {_VERSION}; run with --no-cache")
    return shards


def _object(objects: Path, digest: str) -> Path:
    return objects / digest[:2] / digest


def _fetch(
    folder_uri: str, name: str, entries: Iterable[tuple[str, int]], open_: Open, objects: Path, lacking: set[str]
) -> None:
    place, offset = f"{folder_uri}/{name}.shard", 0
    with _store_errors(place, "read"), open_(place, "rb") as shard:
        for digest, size in entries:
            if digest in lacking:
                if shard.tell() != offset:
                    shard.seek(offset)  # skip images that are not needed
                data = shard.read(size)
                if hashlib.sha256(data).hexdigest() != digest:
                    raise DataError(
                        f"{place}: damaged at image {digest[:12]}…; delete it and run again with --no-cache"
                    )
                _keep(_object(objects, digest), data)
            offset += size


def _keep(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, target)  # noqa: PTH105
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DataError(f"{target.parent}: cannot be written ({describe_os_error(error)}); free some space") from error
