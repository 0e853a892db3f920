"""Kills while embeddings and indexes are stored: none that was acknowledged is lost, and none exists twice.

`VISIONOPS_KILLS=200` kills as often; the seed is fixed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.pictures import encode, picture
from tests.helpers.review import ANNA, NOW, STEEL, UPLOAD
from visionops.review_store.database import Database
from visionops.review_store.likeness import SqlLikenessStore
from visionops.review_store.opening import open_review
from visionops.similarity import growing
from visionops.similarity.embedding import ShapeEmbedder
from visionops.similarity.growing import GrowingIndex
from visionops.similarity.index import VectorIndex

KILLS = int(os.environ.get("VISIONOPS_KILLS", "6"))
KIND, SIZE = ShapeEmbedder.kind, ShapeEmbedder().size


def save_often() -> None:
    """Use a graph for every collection, saved after every third embedding."""
    VectorIndex.__init__.__defaults__ = (0,)  # type: ignore[misc]
    growing._UNSAVED = 3


def work(place: str, images: str, notes: str, first: int, environment: Mapping[str, str]) -> None:
    """Add image after image, from number ``first`` on, and record acknowledged ones."""
    os.environ.update(environment)
    save_often()
    file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with open_review(place, images) as review:
        review.put_use_case(STEEL)
        for number in range(first, 2**24):
            item = review.add("steel", encode(picture(number, 32)), UPLOAD, ANNA, key=str(number), now=NOW).item
            os.write(file, f"{number} {item.image.sha256}\n".encode())


def acknowledged(notes: Path) -> dict[int, str]:
    lines = (line.split() for line in notes.read_text().split("\n")[:-1])
    return {int(number): sha256 for number, sha256 in lines}


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.parametrize("kind", ["sqlite_database", "postgres_database"])
def test_no_acknowledged_embedding_is_lost_or_there_twice(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    folder: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    place, notes, caches = request.getfixturevalue(kind), tmp_path / "notes", tmp_path / "index"
    environment = {"VISIONOPS_REVIEW_INDEX": str(caches)}
    environment |= {name: os.environ[name] for name in ("PGPASSWORD",) if name in os.environ}
    chance, context = random.Random(7), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    notes.touch()
    for _ in range(KILLS):
        known = acknowledged(notes)
        process = context.Process(target=work, args=(place, folder, str(notes), len(known), environment))
        process.start()
        wanted, end = len(known) + chance.randrange(0, 12), time.monotonic() + 300
        while len(acknowledged(notes)) < wanted and process.is_alive():
            assert time.monotonic() < end, "the process does nothing"
            threading.Event().wait(0.002)
        threading.Event().wait(chance.uniform(0, 0.02))
        assert process.is_alive(), "the process failed by itself"
        process.kill()
        process.join(60)

    database = Database(place)
    store, known = SqlLikenessStore(database), acknowledged(notes)
    rows = store.after("steel", KIND, 0, 10_000)
    digests = [row.sha256 for row in rows]
    assert [row.position for row in rows] == [*range(1, len(rows) + 1)]
    assert len(set(digests)) == len(digests)
    assert digests[: len(known)] == list(known.values())
    assert len(digests) - len(known) <= 1  # it was stored, but its process was killed before acknowledging it
    (path,) = caches.glob("*.usearch")
    monkeypatch.setattr(VectorIndex.__init__, "__defaults__", (0,))
    caplog.set_level(logging.WARNING)

    class Source:
        def digests(self, last: int) -> list[str]:
            return list(store.digests("steel", KIND, last))

        def after(self, position: int, limit: int) -> list[growing.Stored]:
            return list(store.after("steel", KIND, position, limit))

    index = GrowingIndex(Source(), KIND, SIZE, path)
    for row in rows:
        (best,) = index.nearest(np.frombuffer(row.vector, "<f4"), 1)
        assert best.position == row.position
    assert len(index) == len(rows)
    assert caplog.records == []  # the file was valid at all times
    print(f"{KILLS} kills: {len(known)} acknowledged, {len(rows)} kept")  # noqa: T201
    database.close()
