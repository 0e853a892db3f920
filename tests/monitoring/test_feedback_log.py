"""The feedback log: images and lines together, and nothing is removed before it was taken."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.test_log import until
from visionops.monitoring import tidying
from visionops.monitoring.feedback import FeedbackLog, OtherContent
from visionops.monitoring.kinds import FEEDBACK, FEEDBACK_RECORD
from visionops.monitoring.segment_reading import LogSource

Make = Callable[..., FeedbackLog]


def line(number: int, **changes: object) -> dict[str, object]:
    texts = {name: "" for name in FEEDBACK_RECORD.names if name != "time"}
    image = str(number).encode() * 1000
    named = {"id": f"id-{number}", "content": f"c-{number}", "model": "steel"}
    return texts | named | {"time": datetime.now(UTC), "sha256": hashlib.sha256(image).hexdigest()} | changes


def say(log: FeedbackLog, number: int, **changes: object) -> bool:
    return log.append(line(number, **changes), str(number).encode() * 1000)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function for logs in `tmp_path / "log"` that close a segment after each record; closed with the test."""
    made: list[FeedbackLog] = []

    def one(**more: Any) -> FeedbackLog:
        made.append(FeedbackLog(tmp_path / "log", **({"segment_bytes": 1} | more)))
        return made[-1]

    yield one
    for log in made:
        log.close()


def source(tmp_path: Path) -> LogSource:
    return LogSource(tmp_path / "log" / "feedback", None, FEEDBACK)


def ids(tmp_path: Path) -> list[str]:
    found = source(tmp_path)
    return [name for stem in found.stems() for name in found.read(stem).records["id"].to_pylist()]


def closed(tmp_path: Path, count: int) -> None:
    until(lambda: len(list((tmp_path / "log" / "feedback").glob("*.parquet"))) == count)
    until(lambda: not list((tmp_path / "log" / "feedback").glob("*.jsonl")))


def test_an_id_stands_for_one_content(make: Make, tmp_path: Path):
    log = make()
    assert [say(log, 1), say(log, 1), say(log, 2)] == [True, False, True]
    with pytest.raises(OtherContent, match="the key was used for other feedback"):
        say(log, 1, content="other")
    closed(tmp_path, 2)
    assert [say(log, 1), say(make(), 2)] == [False, False]
    assert ids(tmp_path) == ["id-1", "id-2"]


def test_what_was_taken_goes_for_its_age_and_the_rest_stays(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = make()
    for number in range(3):
        say(log, number, model="pcb" if number == 2 else "steel")
    closed(tmp_path, 3)
    found = source(tmp_path)
    stems = found.stems()
    found.consumed(stems[0], "steel")
    found.consumed(stems[2], "steel")  # of another model, whose review has not taken it
    log.close()
    monkeypatch.setattr(tidying, "SEGMENT_SECONDS", 0.0)
    old = make(max_age_days=1e-9)
    until(lambda: len(found.stems()) == 2)
    assert ids(tmp_path) == ["id-1", "id-2"]
    assert old.problem == ""
    folder = tmp_path / "log" / "feedback"
    # the mark of a segment is removed after it
    until(lambda: {path.name.partition(".")[0] for path in folder.iterdir()} == set(stems[1:]))


def test_the_oldest_goes_when_there_is_too_much_and_that_is_said(make: Make, tmp_path: Path):
    counts: Counter[str] = Counter()
    log = make()
    for number in range(6):
        say(log, number)
    closed(tmp_path, 6)
    log.close()
    source(tmp_path).consumed(source(tmp_path).stems()[3], "steel")

    def count(outcome: str, records: int) -> None:
        counts[outcome] += records

    folder = tmp_path / "log" / "feedback"
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    small = make(max_bytes=whole * 2 // 3, on_outcome=count)
    until(lambda: counts["unconsumed"])
    assert "id-3" not in ids(tmp_path), "what was taken goes first"
    assert ids(tmp_path)[-1] == "id-5"
    assert f"{counts['unconsumed']} feedbacks were removed before review" in small.problem
    assert len(list(folder.glob("*.files"))) == len(ids(tmp_path))


def test_an_image_whose_line_never_came_goes_with_its_segment(make: Make, tmp_path: Path):
    folder = tmp_path / "log" / "feedback"
    stem = "20260302T061409123456Z-4711-9f2c1e5a"
    (folder / f"{stem}.files").mkdir(parents=True)
    (folder / f"{stem}.files" / "a").write_bytes(b"image")
    (folder / f"{stem}.jsonl").touch()
    make()
    until(lambda: not (folder / f"{stem}.files").exists())
    assert ids(tmp_path) == []
