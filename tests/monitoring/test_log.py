"""The prediction log: acknowledged records survive failures of the process, the disk or the files."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.helpers.disks import mounted
from visionops.errors import DataError
from visionops.monitoring import log as log_module
from visionops.monitoring import segments
from visionops.monitoring.log import OUTCOMES, PredictionLog
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.record import RECORD

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LISTS = {field.name for field in RECORD if pa.types.is_list(field.type)}
NUMBERS = {field.name for field in RECORD if pa.types.is_floating(field.type)}


def record(request_id: str = "r", **changes: object) -> dict[str, object]:
    texts = {"request_id": request_id, "model": "steel", "version": "1", "digest": "ab"}
    boxes = {"count": 1, "labels": ["pit"], "confidences": [0.75]}
    shares = {name: [0.5] for name in LISTS - {"labels", "confidences", "embedding"}}
    numbers = dict.fromkeys(NUMBERS, 0.5)
    return {"time": NOON, **texts, **numbers, **boxes, **shares, "embedding": np.ones(64, np.float32), **changes}


def ids(folder: Path, **wanted: object) -> list[str]:
    return read_log(folder, **wanted)["request_id"].to_pylist()


def until(is_so: Callable[[], object]) -> None:
    """Wait until a condition is true."""
    deadline, tick = time.monotonic() + 180, threading.Event()
    while not is_so():
        assert time.monotonic() < deadline
        tick.wait(0.005)


def open_segment(folder: Path) -> Path:
    (path,) = folder.glob("*.jsonl")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    """Return a log in `tmp_path / "log"`."""
    made = PredictionLog(tmp_path / "log")
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MB."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        yield disk


# Round trip

_FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
_MICROSECONDS = st.integers(-(2**50), 2**50)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def _values(field: pa.Field) -> st.SearchStrategy:
    if pa.types.is_timestamp(field.type):
        zones = st.sampled_from([UTC, timezone(timedelta(hours=-5)), timezone(timedelta(hours=5, minutes=45))])
        return st.builds(lambda us, zone: (NOON + timedelta(microseconds=us)).astimezone(zone), _MICROSECONDS, zones)
    if pa.types.is_list(field.type):
        return st.lists(_TEXTS if pa.types.is_string(field.type.value_type) else _FLOATS, max_size=5)
    if pa.types.is_integer(field.type):
        return st.integers(0, 2**31 - 1)
    return _FLOATS if pa.types.is_floating(field.type) else _TEXTS


@settings(max_examples=20, deadline=None)
@given(st.lists(st.fixed_dictionaries({field.name: _values(field) for field in RECORD}), max_size=4))
def test_records_come_back_from_lines_and_from_parquet(records: list[dict]):
    wanted = sorted(
        (r | {"request_id": str(n), "time": r["time"].astimezone(UTC)} for n, r in enumerate(records)),
        key=lambda r: r["time"],
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = PredictionLog(folder)
        assert all(log.append(r | {"request_id": str(n)}) for n, r in enumerate(records))
        lines = read_log(folder)
        log.close()
        assert [path.suffix for path in folder.iterdir()] == [".parquet"] * bool(records)
        for table in (lines, read_log(folder)):
            assert table.schema == RECORD
            assert sorted(table.to_pylist(), key=lambda r: (r["time"], int(r["request_id"]))) == wanted


def test_what_is_no_number_is_missing(log: PredictionLog, tmp_path: Path):
    nan, inf = float("nan"), float("inf")
    assert log.append(record(latency_ms=nan, confidences=[0.5, inf], labels=["a", "b"]))
    (row,) = read_log(tmp_path / "log").to_pylist()
    assert (row["latency_ms"], row["confidences"]) == (None, [0.5, None])


def test_records_are_found_by_time_model_and_version(log: PredictionLog, tmp_path: Path):
    for n, (model, version) in enumerate([("steel", "1"), ("steel", "2"), ("pcb", "1"), ("steel", "1")]):
        log.append(record(str(n), model=model, version=version, time=NOON - timedelta(minutes=n)))
    for _ in range(2):
        assert ids(tmp_path / "log") == ["3", "2", "1", "0"]  # by time
        assert ids(tmp_path / "log", model="steel") == ["3", "1", "0"]
        assert ids(tmp_path / "log", model="steel", version="1") == ["3", "0"]
        assert ids(tmp_path / "log", since=NOON - timedelta(minutes=2), until=NOON) == ["2", "1"]
        log.close()


def test_no_records_are_an_empty_table_and_no_folder_is_an_error(log: PredictionLog, tmp_path: Path):
    assert read_log(tmp_path / "log").equals(RECORD.empty_table())
    with pytest.raises(DataError, match=r"none: cannot be listed \(no such file or directory\); set the folder"):
        read_log(tmp_path / "none")


def test_what_is_no_record_is_counted(log: PredictionLog, tmp_path: Path):
    for wrong in ({}, record(time="noon"), record(embedding=["x"]), record(labels=object())):
        assert not log.append(wrong)
    assert log.append(record())
    assert log.counts == dict.fromkeys(OUTCOMES, 0) | {"invalid": 4, "written": 1}
    log.close()
    assert not log.append(record())
    assert log.counts["closed"] == 1


# Leftovers of killed processes


def lines_of(folder: Path, *request_ids: str) -> bytes:
    """Write lines as a process does."""
    log = PredictionLog(folder)
    for request_id in request_ids:
        assert log.append(record(request_id))
    lines = open_segment(folder).read_bytes()
    log.close()
    return lines


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda lines: lines + lines[:200], ["a", "b", "c"]),
        (lambda lines: lines[:-1], ["a", "b"]),
        (lambda lines: b"\xff\0{]\n" + lines + b'{"time": 1}\n', ["a", "b", "c"]),
        (lambda lines: lines.replace(b'"count":1', b'"count":"many"', 2), ["c"]),
        (lambda _: b"", []),
        (lambda _: b"{", []),
    ],
    ids=["torn", "without its end", "garbage", "other types", "empty", "nothing whole"],
)
def test_a_damaged_line_costs_only_itself(tmp_path: Path, damage: Callable[[bytes], bytes], left: list[str]):
    folder = tmp_path / "log"
    folder.mkdir()
    dead = folder / "20260302T110000000000Z-1-0a1b2c3d.jsonl"
    dead.write_bytes(damage(lines_of(tmp_path / "other", "a", "b", "c")))
    assert ids(folder) == left
    PredictionLog(folder, max_age_days=36_500).close()
    assert ids(folder) == left
    assert [path.name for path in folder.iterdir()] == [dead.with_suffix(".parquet").name] * bool(left)


def test_a_process_killed_between_two_files_leaves_nothing_twice(tmp_path: Path):
    folder = tmp_path / "log"
    lines = lines_of(folder, "a", "b")
    (closed,) = folder.iterdir()
    closed.with_suffix(".jsonl").write_bytes(lines)
    assert ids(folder) == ["a", "b"]
    PredictionLog(folder).close()
    assert list(folder.iterdir()) == [closed]
    assert ids(folder) == ["a", "b"]


CHILD = """
import sys
from pathlib import Path
from tests.monitoring.test_log import record
from visionops.monitoring.log import PredictionLog
log = PredictionLog(Path(sys.argv[1]), segment_bytes=6_000)
for n in range(int(sys.argv[3])):
    assert log.append(record(sys.argv[2] + str(n))), log.problem
    print(sys.argv[2] + str(n), flush=True)
log.close()
"""


def test_two_processes_share_a_folder_and_one_is_killed(tmp_path: Path):
    def start(name: str, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(tmp_path), name, str(count)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    with start("a", 100) as whole, start("b", 1_000_000) as killed:
        printed = [killed.stdout.readline() for _ in range(random.randint(20, 100))]
        killed.kill()
        acknowledged = {line.strip() for line in [*printed, *killed.stdout.readlines()] if line.endswith("\n")}
        seen = ids(tmp_path)  # while the other continues
        assert len(seen) == len(set(seen))
        assert acknowledged <= set(seen)
        acknowledged |= {line.strip() for line in whole.stdout.readlines()}
        assert whole.wait(180) == 0
    PredictionLog(tmp_path).close()
    seen = ids(tmp_path)
    assert len(seen) == len(set(seen))
    assert acknowledged <= set(seen)
    assert {f"a{n}" for n in range(100)} <= acknowledged
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}


def test_a_process_that_needs_neither_pandas_nor_a_store_is_spared_them(tmp_path: Path):
    code = f"""
import sys
from pathlib import Path
from tests.monitoring.test_log import lines_of
lines_of(Path({str(tmp_path)!r}), "a")
print({{"pandas", "psycopg", "pyarrow.dataset"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert ids(tmp_path) == ["a"]


# Problems of the disk


def test_a_folder_that_cannot_be_written_costs_records_and_nothing_else(tmp_path: Path):
    folder = tmp_path / "log"
    folder.write_text("a file in the way")
    log = PredictionLog(folder)
    assert "log: cannot be written (file exists); choose another folder" in log.problem
    assert [log.append(record()) for _ in range(3)] == [False] * 3
    assert (log.counts["unwritable"], log.counts["written"]) == (3, 0)
    folder.unlink()
    assert log.append(record("back"))
    until(lambda: log.problem == "")
    assert ids(folder) == ["back"]
    log.close()


def test_a_full_disk_costs_records_and_tears_none(small_disk: Path):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * 900_000)
    log = PredictionLog(small_disk / "log")
    written = [str(n) for n in range(200) if log.append(record(str(n), embedding=np.random.rand(500)))]
    assert 10 < len(written) < 100
    assert (log.counts["written"], log.counts["disk_full"]) == (len(written), 200 - len(written))
    assert "log: cannot be written (no space left on device); free some space" in log.problem
    assert sorted(ids(small_disk / "log")) == sorted(written)
    ballast.unlink()
    assert log.append(record("back"))
    until(lambda: log.problem == "")
    log.close()
    assert sorted(ids(small_disk / "log")) == sorted([*written, "back"])
    assert {path.suffix for path in (small_disk / "log").iterdir()} == {".parquet"}


def test_a_log_that_somebody_removes_begins_anew(log: PredictionLog, tmp_path: Path):
    assert log.append(record("a"))
    shutil.rmtree(tmp_path / "log")
    assert log.append(record("b"))
    assert ids(tmp_path / "log") == ["b"]


def test_a_disk_that_hangs_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    goes_on, write = threading.Event(), segments.OpenSegment.write

    def hang(*arguments: object) -> None:
        assert goes_on.wait(180)
        write(*arguments)

    monkeypatch.setattr(segments.OpenSegment, "write", hang)
    log = PredictionLog(tmp_path, capacity=4, patience=0.05)
    assert [log.append(record(str(n))) for n in range(10)] == [False] * 10
    assert log.counts == dict.fromkeys(OUTCOMES, 0) | {"overflow": 5}  # one is being written, four wait
    assert "a write takes over 0.05 s" in log.problem
    goes_on.set()
    until(lambda: log.counts["written"] == 5)
    until(lambda: log.append(record("late")))
    assert log.problem == ""
    assert ids(tmp_path)[:5] == ["0", "1", "2", "3", "4"]
    log.close()


def test_what_an_older_version_wrote_is_read(tmp_path: Path):
    lines_of(tmp_path, "a")
    (closed,) = tmp_path.iterdir()
    pq.write_table(pq.read_table(closed).drop_columns(["latency_ms", "embedding"]), closed)
    line = (
        lines_of(tmp_path / "new", "b").replace(b'"latency_ms"', b'"milliseconds"').replace(b'"embedding"', b'"other"')
    )
    (tmp_path / "20260302T110000000000Z-1-0a1b2c3d.jsonl").write_bytes(line)
    rows = read_log(tmp_path).to_pylist()
    assert [(row["request_id"], row["latency_ms"], row["count"]) for row in rows] == [("b", None, 1), ("a", None, 1)]


def test_a_closed_segment_that_cannot_be_read_is_named(tmp_path: Path):
    lines_of(tmp_path, "a")
    (closed,) = tmp_path.iterdir()
    closed.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=rf"{closed.name}: cannot be read \(.*\); remove it"):
        read_log(tmp_path)


# Limits of size and age


def test_the_oldest_records_go_when_there_are_too_many(tmp_path: Path):
    log = PredictionLog(tmp_path, max_bytes=200_000)
    for n in range(300):
        assert log.append(record(str(n), time=NOON + timedelta(seconds=n), embedding=np.random.rand(500)))
    log.close()
    assert 50_000 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200_000
    left = ids(tmp_path)
    assert 20 < len(left) < 200
    assert left == [str(n) for n in range(300 - len(left), 300)]


def test_old_records_go(tmp_path: Path):
    lines_of(tmp_path, "a")
    (closed,) = tmp_path.iterdir()
    for days in (9, 11):
        begin = datetime.now(UTC) - timedelta(days=days)
        shutil.copy(closed, tmp_path / f"{begin:%Y%m%dT%H%M%S%f}Z-1-0000000{days % 8}.parquet")
    other = tmp_path / "20200101-mine.parquet"
    shutil.copy(closed, other)
    PredictionLog(tmp_path, max_age_days=10).close()
    assert len(list(tmp_path.iterdir())) == 3
    assert other.exists()
    assert closed.exists()


def test_a_quiet_segment_is_closed_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (log_module, segments):
        monkeypatch.setattr(module, "SEGMENT_SECONDS", 0.05)
    log = PredictionLog(tmp_path)
    assert log.append(record())
    until(lambda: [path.suffix for path in tmp_path.iterdir()] == [".parquet"])
    log.close()


def test_records_of_many_threads_are_written_each_once(tmp_path: Path):
    log = PredictionLog(tmp_path, segment_bytes=50_000)

    def write(name: str) -> None:
        assert all(log.append(record(f"{name}{n}")) for n in range(50))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(ids(tmp_path)) == sorted(f"{name}{n}" for name in "abcdefgh" for n in range(50))


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_time_without_a_zone_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=rf"{name}: 2026-03-02T12:00:00 has no time zone; add one, as in "):
        read_log(tmp_path, **{name: NOON.replace(tzinfo=None)})
    assert ids(tmp_path, **{name: NOON.astimezone(timezone(timedelta(hours=5)))}) == []
