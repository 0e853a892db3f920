"""Nearest neighbours equal those of brute force, also from a graph, and after it was saved."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionops.similarity.cache import DamagedCache, read_cache, write_cache
from visionops.similarity.growing import GrowingIndex, Stored
from visionops.similarity.index import VectorIndex

SIZE = 8


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Enable log capture, because an earlier test may have set up the loggers of a server, which do not propagate."""
    for name in ("visionops", "visionops.similarity"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    caplog.set_level(logging.WARNING, logger="visionops.similarity")


def unit(count: int, seed: int, size: int = SIZE) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


class Table:
    """Embeddings in memory, in the form of a database table."""

    def __init__(self, vectors: np.ndarray) -> None:
        digests = [hashlib.sha256(vector.tobytes()).hexdigest() for vector in vectors]
        self.rows = [
            Stored(n, digest, vector.astype("<f4").tobytes())
            for n, (digest, vector) in enumerate(zip(digests, vectors, strict=True), 1)
        ]

    def digests(self, last: int) -> list[str]:
        return [row.sha256 for row in self.rows[:last]]

    def after(self, position: int, limit: int) -> Sequence[Stored]:
        return self.rows[position : position + limit]


@given(count=st.integers(1, 60), parts=st.integers(1, 5), wanted=st.integers(1, 70), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("exact", [0, 10, 4096])
def test_it_finds_what_brute_force_finds(exact: int, count: int, parts: int, wanted: int, seed: int):
    vectors, query = unit(count, seed), unit(1, seed + 1)[0]
    index = VectorIndex(SIZE, exact)
    for part in np.array_split(vectors, parts):
        index.add(part)
    assert index.is_graph == (count > exact)
    hits = index.nearest(query, wanted)
    distances = np.sort(1 - vectors @ query)[:wanted]
    assert len(hits) == min(count, wanted)
    assert np.allclose([hit.distance for hit in hits], distances, atol=1e-5)
    assert np.allclose(1 - vectors[[hit.position - 1 for hit in hits]] @ query, distances, atol=1e-5)
    if index.is_graph:
        again = VectorIndex.from_bytes(SIZE, index.to_bytes(), exact)
        assert again.nearest(query, wanted) == hits


def test_what_shows_nothing_is_near_to_nothing():
    for exact in (0, 4096):
        index = VectorIndex(SIZE, exact)
        index.add(np.concatenate([np.zeros((3, SIZE), np.float32), unit(2, 1)]))
        assert index.nearest(np.zeros(SIZE, np.float32), 5) == []
        (best, *others) = index.nearest(unit(2, 1)[1], 5)
        assert (best.position, round(best.distance, 5)) == (5, 0)
        assert all(hit.distance == 1 for hit in others if hit.position <= 3)


def test_another_size_is_refused():
    with pytest.raises(ValueError, match="expected"):
        VectorIndex(SIZE).add(unit(2, 1, SIZE + 1))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a graph for every collection, saved every 20 embeddings."""
    monkeypatch.setattr(VectorIndex.__init__, "__defaults__", (0,))
    monkeypatch.setattr("visionops.similarity.growing._UNSAVED", 20)


def found_in(table: Table, path: Path) -> list[int]:
    """Return the nearest position of each embedding of the table."""
    index = GrowingIndex(table, "test", SIZE, path)
    found = [index.nearest(np.frombuffer(row.vector, "<f4"), 1)[0].position for row in table.rows]
    index.close()
    return found


@pytest.mark.usefixtures("graphs")
def test_an_index_follows_its_table_and_opens_from_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    table, path = Table(unit(50, 3)), tmp_path / "a" / "index"
    assert found_in(table, path) == [*range(1, 51)]
    saved = path.read_bytes()
    table.rows += [row._replace(position=n) for n, row in enumerate(Table(unit(10, 4)).rows, 51)]
    assert found_in(table, path) == [*range(1, 61)]
    assert path.read_bytes() == saved  # ten are too few to save it again
    assert caplog.records == []
    read = read_cache(path, "test", SIZE)
    assert read is not None
    assert len(read[0]) == 50


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "header", "text", "folder", "other table", "other kind"])
def test_a_damaged_file_is_built_again_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
):
    table, path = Table(unit(50, 3)), tmp_path / "index"
    found_in(table, path)
    data = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(data[:-100])
        case "bit":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "empty":
            path.write_bytes(b"")
        case "header":
            path.write_bytes(b"[1]\n" + data)
        case "text":
            path.write_bytes(b"no index" * 1000)
        case "folder":
            path.unlink()
            path.mkdir()
        case "other table":
            found_in(Table(unit(50, 5)), tmp_path / "other")
            (tmp_path / "other").replace(path)
        case _:
            read = read_cache(path, "test", SIZE)
            assert read is not None
            write_cache(path, "of another model", *read)
    assert found_in(table, path) == [*range(1, 51)]
    (line, *_) = [record.getMessage() for record in caplog.records]
    assert str(path) in line
    assert "it is built again from the database" in line
    assert "\n" not in line
    if damage != "folder":
        caplog.clear()
        assert found_in(table, path) == [*range(1, 51)]
        assert caplog.records == []


@pytest.mark.usefixtures("graphs")
def test_a_table_that_became_shorter_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    table, path = Table(unit(50, 3)), tmp_path / "index"
    found_in(table, path)
    del table.rows[30:]  # as after a backup was restored
    assert found_in(table, path) == [*range(1, 31)]
    assert "has other images than the database" in caplog.text


@pytest.mark.usefixtures("graphs")
def test_what_a_killed_process_left_is_removed_with_the_next_save(tmp_path: Path):
    (tmp_path / ".index.0123456789ab.tmp").write_bytes(b"half")
    found_in(Table(unit(50, 3)), tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.usefixtures("graphs")
def test_without_a_place_for_the_file_everything_is_found_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()
    assert found_in(Table(unit(50, 3)), tmp_path / "file" / "index") == [*range(1, 51)]
    assert "cannot be written (file exists); set VISIONOPS_REVIEW_INDEX" in caplog.text


def test_a_file_of_another_size_is_refused(tmp_path: Path):
    index = VectorIndex(SIZE, 0)
    index.add(unit(3, 1))
    write_cache(tmp_path / "index", "test", index, "")
    with pytest.raises(DamagedCache, match="has size 8, expected 9"):
        read_cache(tmp_path / "index", "test", 9)
    assert read_cache(tmp_path / "none", "test", SIZE) is None
