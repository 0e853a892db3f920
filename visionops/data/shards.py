"""How image bytes travel when the artifact store is no folder of this machine.

Images are joined, uncompressed, into shards of about 64 MB, because a store answers a thousand small requests slower
than one large. An image's shard follows from the first bits of its SHA-256, and a shard's name from its content:
adding an image changes one shard, and the others, being there already, are not sent again. The file operations are
given, so that any store will do.

    {folder}/{digest}.shard    the bytes of images, in order of their SHA-256
    {folder}/{digest}.done     empty; written after the shard, so that half a shard is never taken for a whole one
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
"""Shards hold at most about this much, and on average between half of it and all of it."""

_VERSION = 1
_READERS = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Entries = list[tuple[str, int]]
Shards = dict[str, _Entries]
"""Name to the SHA-256 and the number of bytes of each image, in order."""


@dataclasses.dataclass(frozen=True)
class StoredDataset:
    """A data set whose images come to this machine when they are asked for, and no others."""

    tables: Dataset
    """Its ``path`` column says where images are that need not be fetched; "" for all others."""
    fetch: Callable[[Dataset], Dataset]
    """Given some of its images, the same with paths of this machine; "" for bytes that are nowhere.

    Raises `DataError` as `unpack_shards` does.
    """

    def only(self, *splits: Split) -> Dataset:
        """All of its tables; of its images those of some splits are on this machine.

        Raises:
            DataError: As `unpack_shards`.
        """
        wanted = {split.value for split in splits}
        rows = [row for row, split in enumerate(self.tables.column("split")) if split in wanted]
        paths = self.tables.column("path")
        for row, path in zip(rows, self.fetch(self.tables.take(rows)).column("path"), strict=True):
            paths[row] = path
        return self.tables.replace_column("path", paths)


class Open(Protocol):
    """Opens a file of the store, as ``fileio.open`` or fsspec do: mode ``rb`` or ``wb``."""

    def __call__(self, path: str, mode: str) -> IO[Any]:
        """The open file."""


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
    """Store the bytes of all images that are at hand; each content once, however many images have it.

    Args:
        dataset: Hashed (`visionops.data.hashing.hash_images`).
        folder_uri: A folder of the store; data sets may share it.
        stored: Shards that are in the folder: what these have is not read again, and need not be at hand.
        progress: Called with the bytes done and their total; bytes that were there already count.

    Returns:
        The name of the index, for `unpack_shards`.

    Raises:
        DataError: An image is not hashed, changed since, or cannot be read; or the store cannot be written.
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
    """Fetch the images of ``dataset`` that the cache lacks, and point its paths there.

    Args:
        dataset: Its ``path`` column is replaced; images whose bytes were not stored get "".
        index: What `pack_shards` returned.
        cache: A folder of this machine; any number of processes may use it at once.

    Raises:
        DataError: The store or the cache does not answer, or the bytes are not what they were.
    """
    return stored_dataset(dataset, folder_uri, read_index(folder_uri, index, open_), open_, cache).fetch(dataset)


def stored_dataset(dataset: Dataset, folder_uri: str, shards: Shards, open_: Open, cache: Path) -> StoredDataset:
    """As `unpack_shards`, but nothing is fetched until it is asked for.

    Args:
        shards: Of `read_index`.
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
    """Which images are in which shards.

    Args:
        index: What `pack_shards` returned.

    Raises:
        DataError: It cannot be read.
    """
    with _store_errors(f"{folder_uri}/{index}.json", "read"), open_(f"{folder_uri}/{index}.json", "rb") as file:
        data = file.read()
    try:
        raw = json.loads(data)
        version = raw["version"]
        shards = {name: [(str(d), int(n)) for d, n in entries] for name, entries in raw["shards"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder_uri}/{index}.json: not an index of shards ({error}); run with --no-cache") from error
    # Hashes become file names: nothing else may.
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
                    shard.seek(offset)  # over what nobody here needs
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
