"""Run a process that adds images, decides and exports until it is killed, and check the invariants afterwards.

It notes each write in a file before it begins and after it was acknowledged. Notes are written without buffering, so
they survive the process. The next process begins with the unacknowledged writes, as a client would.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.helpers.review import ANNA, BEA, CHEN, NOW, STEEL, UPLOAD, answer_of, png
from visionops.review.ports import ItemFilter
from visionops.review.service import Review
from visionops.review.states import State, Verdict
from visionops.review.sweep import sweep
from visionops.review_store.opening import open_review

DAY = timedelta(days=1)
_EXPORT_EVERY = 4


def work(place: str, images: str, notes: str, first: int, environment: Mapping[str, str]) -> None:
    """Add, decide and export image after image, from number ``first`` on."""
    os.environ.update(environment)
    file = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(**what: object) -> None:
        os.write(file, json.dumps(what).encode() + b"\n")

    with open_review(place, images) as review:
        review.put_use_case(STEEL)
        for number in range(first, 2**24):
            _one(review, number, note)


def _one(review: Review, number: int, note) -> None:
    verdict = list(Verdict)[number % 3]
    note(begun="add", number=number)
    item = review.add("steel", png(number), UPLOAD, ANNA, key=f"add {number}", now=NOW).item.id
    note(done="add", number=number, item=item)
    review.claim(item, BEA, key=f"claim {number}", now=NOW, lease=DAY)
    note(begun="decide", number=number)
    review.decide(item, answer_of(verdict), BEA, key=f"decide {number}", now=NOW)
    note(done="decide", number=number, item=item, verdict=verdict)
    if number % _EXPORT_EVERY == _EXPORT_EVERY - 1:
        note(begun="export", number=number)
        version = review.export("steel", CHEN, key=f"export {number}", now=NOW)
        assert version is not None
        note(done="export", number=number, version=version.number, items=version.num_items)


def kill_often(place: str, images: str, folder: Path, kills: int, seed: int, environment: Mapping[str, str]) -> Path:
    """Kill the process this number of times, at random times; return the file of notes."""
    chance, notes = random.Random(seed), folder / "notes.jsonl"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    notes.touch()
    for _ in range(kills):
        lines = _read(notes)
        first = max((line["number"] for line in lines if "begun" in line), default=0)
        process = context.Process(target=work, args=(place, images, str(notes), first, environment))
        process.start()
        # Some are killed while they start, others in the middle of any write.
        wanted, end = len(lines) + chance.randrange(0, 14), time.monotonic() + 300
        while len(_read(notes)) < wanted and process.is_alive():
            assert time.monotonic() < end, "the process does nothing"
            threading.Event().wait(0.002)
        threading.Event().wait(chance.uniform(0, 0.02))
        assert process.is_alive(), "the process failed by itself"
        process.kill()
        process.join(60)
    return notes


def check(review: Review, notes: Path) -> Counter[str]:
    """Assert that all acknowledged writes exist once, and none partially; return them."""
    store, done = review.store, [line for line in _read(notes) if "done" in line]
    items = {item.id: item for item in items_of(review)}
    versions = {version.number: version for version in store.versions("steel")}
    members = {number: store.version("steel", number) for number in versions}

    for line in done:
        if line["done"] == "add":
            assert len(store.arrivals(line["item"])) == 1
        elif line["done"] == "decide":
            (decision,) = store.decisions(line["item"])
            assert (decision.verdict, decision.reviewer) == (line["verdict"], "bea")
        else:
            assert versions[line["version"]].num_items == line["items"] == len(members[line["version"]])

    for item in items.values():
        assert len(review.images.read(item.image.sha256)) == item.image.num_bytes
        history = store.history(item.id)
        assert [row.revision for row in history] == list(range(item.status.revision + 1))
        assert len([row for row in history if row.action == "decide"]) == len(store.decisions(item.id))
    exported = [item.id for number in members for item, _ in members[number]]
    assert len(exported) == len(set(exported))
    assert {item.id for item in items.values() if item.status.state is State.EXPORTED} == set(exported)

    sweep(store, review.images, datetime.now(UTC) + 2 * DAY)
    assert {name for name, _ in review.images.digests()} == {item.image.sha256 for item in items.values()}
    return Counter(line["done"] for line in {json.dumps(line): line for line in done}.values())


def items_of(review: Review):
    page = review.store.items(ItemFilter("steel", limit=1000))
    while page:
        yield from page
        page = review.store.items(ItemFilter("steel", limit=1000, after=page[-1].id))


def _read(notes: Path) -> list[dict[str, object]]:
    # The last line may be incomplete.
    return [json.loads(line) for line in notes.read_text().split("\n")[:-1]]
