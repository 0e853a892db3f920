from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.data.dataset import Dataset
from visionops.data.hashing import hash_images
from visionops.data.shards import pack_shards, read_index, stored_dataset, unpack_shards
from visionops.errors import DataError


class Store:
    """A folder that counts the requests to it."""

    def __init__(self, root: Path) -> None:
        self.uri = str(root)
        root.mkdir()
        self.written: list[str] = []
        self.read: list[str] = []

    def open(self, path: str, mode: str) -> IO[bytes]:
        (self.written if mode == "wb" else self.read).append(Path(path).name)
        return Path(path).open(mode)

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def shards(self) -> list[Path]:
        return sorted(Path(self.uri).glob("*.shard"))


def images(folder: Path, contents: list[bytes]) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04d}.jpg" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return hash_images(
        Dataset.from_columns("d", ["a"], {"key": [p.name for p in paths], "path": list(map(str, paths))}, {})
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def contents(count: int, size: int = 1000) -> list[bytes]:
    return [hashlib.sha256(str(i).encode()).digest() * (size // 32) for i in range(count)]


def pack(dataset: Dataset, store: Store, **options) -> str:
    return pack_shards(dataset, store.uri, store.open, store.exists, **options)


def unpack(dataset: Dataset, store: Store, index: str, cache: Path) -> Dataset:
    return unpack_shards(dataset, store.uri, index, store.open, cache)


def test_packed_images_are_unpacked_unchanged(tmp_path, store):
    steps: list[tuple[int, int]] = []
    dataset = images(tmp_path / "in", contents(100))
    index = pack(dataset, store, shard_bytes=20_000, progress=lambda done, total: steps.append((done, total)))
    assert len(store.shards()) == 8
    assert sum(p.stat().st_size for p in store.shards()) == 100 * 992
    assert steps[-1] == (99_200, 99_200)
    shutil.rmtree(tmp_path / "in")
    back = unpack(dataset, store, index, tmp_path / "cache")
    assert [Path(p).read_bytes() for p in back.column("path")] == contents(100)
    assert back.fingerprint() == dataset.fingerprint()


@settings(max_examples=25, deadline=None)
@given(data=st.lists(st.binary(max_size=50), max_size=12), shard_bytes=st.integers(1, 300))
def test_any_bytes_come_back(data, shard_bytes, tmp_path_factory):
    root = tmp_path_factory.mktemp("any")
    store = Store(root / "store")
    dataset = images(root / "in", data)
    back = unpack(dataset, store, pack(dataset, store, shard_bytes=shard_bytes), root / "cache")
    assert [Path(p).read_bytes() for p in back.column("path")] == data


def test_equal_images_are_stored_once(tmp_path, store):
    dataset = images(tmp_path / "in", [b"same" * 100] * 10 + [b"other"])
    index = pack(dataset, store)
    assert [p.stat().st_size for p in store.shards()] == [405]
    back = unpack(dataset, store, index, tmp_path / "cache")
    assert len(set(back.column("path"))) == 2


def test_an_unchanged_shard_is_not_sent_again(tmp_path, store):
    pack(images(tmp_path / "a", contents(100)), store, shard_bytes=20_000)
    store.written.clear()
    index = pack(images(tmp_path / "b", contents(101)), store, shard_bytes=20_000)
    assert len([n for n in store.written if n.endswith(".shard")]) == 1
    store.written.clear()
    assert pack(images(tmp_path / "b", contents(101)), store, shard_bytes=20_000) == index
    assert store.written == [f"{index}.json"]


def test_half_a_shard_is_written_again(tmp_path, store):
    dataset = images(tmp_path / "in", contents(3))
    pack(dataset, store)
    next(Path(store.uri).glob("*.done")).unlink()
    store.shards()[0].write_bytes(b"half")
    index = pack(dataset, store)
    assert unpack(dataset, store, index, tmp_path / "cache").column("path")[0]


def test_the_cache_is_used(tmp_path, store):
    dataset = images(tmp_path / "in", contents(40))
    index = pack(dataset, store, shard_bytes=10_000)
    unpack(dataset.take([0]), store, index, tmp_path / "cache")
    assert len([n for n in store.read if n.endswith(".shard")]) == 1
    unpack(dataset, store, index, tmp_path / "cache")
    store.read.clear()
    unpack(dataset, store, index, tmp_path / "cache")
    assert store.read == [f"{index}.json"]


def test_many_at_once(tmp_path, store):
    dataset = images(tmp_path / "in", contents(30))
    index = pack(dataset, store, shard_bytes=5000)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(unpack, dataset, store, index, tmp_path / "cache") for _ in range(4)]
        results = [job.result() for job in jobs]
    assert all([Path(p).read_bytes() for p in r.column("path")] == contents(30) for r in results)
    assert not list((tmp_path / "cache").rglob(".*"))


def test_missing_images_stay_missing(tmp_path, store):
    dataset = images(tmp_path / "in", contents(3))
    some = dataset.replace_column("path", ["", *dataset.column("path")[1:]])
    back = unpack(some, store, pack(some, store), tmp_path / "cache")
    assert [bool(p) for p in back.column("path")] == [False, True, True]


def test_changed_images_are_refused(tmp_path, store):
    dataset = images(tmp_path / "in", contents(3))
    with pytest.raises(DataError, match="has no hash"):
        pack(dataset.replace_column("sha256", [""] * 3), store)
    Path(dataset.column("path")[1]).write_bytes(b"x" * 992)
    with pytest.raises(DataError, match="changed while the pipeline ran"):
        pack(dataset, store)
    Path(dataset.column("path")[1]).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        pack(dataset, store)
    assert not list(Path(store.uri).glob("*.done"))


def test_a_store_that_does_not_answer(tmp_path, store):
    dataset = images(tmp_path / "in", contents(3))
    index = pack(dataset, store)
    shard = store.shards()[0]
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="damaged at image"):
        unpack(dataset, store, index, tmp_path / "cache")
    shard.write_bytes(data[:100])
    with pytest.raises(DataError, match="damaged at image"):
        unpack(dataset, store, index, tmp_path / "cache2")
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        unpack(dataset, store, index, tmp_path / "cache3")
    with pytest.raises(DataError, match="cannot be read"):
        unpack(dataset, store, "absent", tmp_path / "cache")
    shutil.rmtree(store.uri)
    with pytest.raises(DataError, match="cannot be written"):
        pack(dataset, store)


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b'{"version": 1}',
        b'{"version": 2, "shards": {}}',
        json.dumps({"version": 1, "shards": {"x": [["../../etc/passwd", 3]]}}).encode(),
        json.dumps({"version": 1, "shards": {"x": [["0" * 64, -3]]}}).encode(),
    ],
)
def test_an_invalid_index(tmp_path, store, content):
    dataset = images(tmp_path / "in", contents(1))
    (Path(store.uri) / "i.json").write_bytes(content)
    with pytest.raises(DataError, match="not an index"):
        unpack(dataset, store, "i", tmp_path / "cache")


def test_a_cache_that_cannot_be_written(tmp_path, store):
    dataset = images(tmp_path / "in", contents(1))
    index = pack(dataset, store)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        unpack(dataset, store, index, tmp_path / "file")


def test_a_part_reads_its_own_bytes_and_no_others(tmp_path, store):
    dataset = images(tmp_path / "in", contents(400))
    index = pack(dataset, store, shard_bytes=20_000)
    assert len(store.shards()) > 20
    shards = read_index(store.uri, index, store.open)
    stored = stored_dataset(dataset, store.uri, shards, counting(store), tmp_path / "cache")
    assert store.bytes_read == 0  # except the index
    part = stored.fetch(dataset.shard(3, 20))
    assert [Path(p).read_bytes() for p in part.column("path")] == [
        contents(400)[int(k[:4])] for k in part.column("key")
    ]
    assert store.bytes_read == 992 * part.num_images
    assert len([name for name in store.read if name.endswith(".shard")]) <= 3
    assert len(list((tmp_path / "cache" / "objects").rglob("*"))) < 60
    assert stored.fetch(part).column("path") == part.column("path")
    assert store.bytes_read == 992 * part.num_images


def counting(store: Store) -> Callable[[str, str], IO[bytes]]:
    """Return `Store.open` with a counter: it adds the bytes read from shards to ``store.bytes_read``."""
    store.bytes_read = 0

    def open_(path: str, mode: str) -> IO[bytes]:
        file = store.open(path, mode)
        if path.endswith(".shard"):
            read = file.read

            def read_counted(size: int) -> bytes:
                data = read(size)
                store.bytes_read += len(data)
                return data

            file = Seekable(file, read_counted)
        return file

    return open_


class Seekable:
    def __init__(self, file: IO[bytes], read: Callable[[int], bytes]) -> None:
        self.tell, self.seek, self.read, self._file = file.tell, file.seek, read, file

    def __enter__(self) -> Seekable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
