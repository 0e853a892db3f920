"""Stores of prediction logs: a real PostgreSQL and a real S3 server have the folder's records, each once."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pyarrow.fs
import pytest

from deploy.serving.settings import Settings
from tests.conftest import ROOT
from tests.helpers.postgres import PASSWORD, Postgres, postgres_server
from tests.helpers.s3 import s3_bucket, s3_server
from tests.monitoring.test_log import lines_of, record, until
from visionops.addresses import check_store
from visionops.errors import ConfigError, DataError
from visionops.inference.settings import ServingConfig
from visionops.inference.task import RecordColumn
from visionops.inference.task_registry import register, unregister
from visionops.monitoring import shipping
from visionops.monitoring.images import ImageSamples
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.record import RECORD
from visionops.monitoring.stores import open_store
from visionops.tasks.classification.spec import ClassificationTask

NOW = datetime.now(UTC)
NOWHERE = "postgresql://tester@127.0.0.1:1/postgres"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Yield a server; it may have data of earlier tests."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def database(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of an empty database."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with psycopg.connect(postgres.uri) as connection:
        connection.execute("DROP TABLE IF EXISTS visionops_predictions, visionops_predictions_files")
    return postgres.uri


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Yield the address of a server."""
    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3: str) -> Iterator[str]:
    """Yield the URI of an empty prefix."""
    with s3_bucket(s3, "parts") as uri:
        yield f"{uri}/log"


@pytest.fixture(params=["database", "bucket"])
def store(request: pytest.FixtureRequest) -> str:
    """Yield the URI of an empty store of each kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def make_log(tmp_path: Path) -> Iterator[Callable[..., PredictionLog]]:
    """Return a function for logs in `tmp_path / "log"`; closed with the test."""
    made: list[PredictionLog] = []

    def make(store: str | None = None, **more: Any) -> PredictionLog:
        made.append(PredictionLog(tmp_path / "log", store=store, **more))
        return made[-1]

    yield make
    for log in made:
        log.close()


def new(request_id: str, **changes: object) -> dict[str, object]:
    return record(request_id, **{"time": NOW, **changes})


def ids(place: Path | str, **wanted: Any) -> list[str]:
    return sorted(read_log(place, **wanted)["request_id"].to_pylist())


def sampled(request_id: str, data: bytes, name: str = "", **changes: object) -> dict[str, object]:
    """Return a record that names an image."""
    named = {"image": name or f"images/2026-03-02/{request_id}.png", "image_sha256": hashlib.sha256(data).hexdigest()}
    return new(request_id, **named, **changes)


def put_image(log: Path, request_id: str, data: bytes) -> None:
    path = log / "images" / "2026-03-02" / f"{request_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def stored(place: str, data: bytes) -> list[bytes | None]:
    """Return the files of each segment with this content."""
    store = open_store(place)
    return [store.read_file(stem, hashlib.sha256(data).hexdigest()) for stem in store.stems()]


def test_sampled_images_go_with_their_segment_and_what_is_missing_is_counted(store: str, make_log, tmp_path: Path):
    folder, missing = tmp_path / "log", []
    samples = ImageSamples(folder, 1.0)
    kept = samples.keep(b"\x89PNG kept", "kept", NOW)
    samples.close()
    put_image(folder, "again", b"\x89PNG kept")
    put_image(folder, "torn", b"")
    (tmp_path / "secret").write_bytes(b"secret")
    log = make_log(store, on_image_missing=missing.append)
    records = [
        sampled("kept", b"\x89PNG kept", kept),
        sampled("again", b"\x89PNG kept"),
        sampled("torn", b"whole"),
        sampled("gone", b"gone"),
        sampled("outside", b"secret", "../secret"),
        new("not sampled"),
    ]
    assert all(log.append(each) for each in records)
    log.close()
    assert stored(store, b"\x89PNG kept") == [b"\x89PNG kept"]
    assert stored(store, b"whole") == stored(store, b"gone") == stored(store, b"secret") == [None]
    assert missing == [2]
    assert (log.problem, log.unshipped) == ("", 0)


def test_a_segment_waits_for_images_that_are_being_written(
    store: str, make_log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shipping, "_SOON_SECONDS", 0.02)
    missing: list[int] = []
    log = make_log(store, segment_bytes=1, on_image_missing=missing.append)
    log.append(sampled("late", b"late"))
    until(lambda: log.unshipped == 1)
    log.append(new("other"))
    until(lambda: ids(store) == ["other"])
    put_image(tmp_path / "log", "late", b"late")
    until(lambda: log.unshipped == 0)
    assert ids(store) == ["late", "other"]
    assert (b"late" in stored(store, b"late"), missing) == (True, [])


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.monitoring.test_stores import sampled
from visionops.monitoring import store_s3
from visionops.monitoring.log import PredictionLog
put = store_s3._put
def put_or_die(store, path, data):
    if path.endswith(".parquet"):
        os.kill(os.getpid(), signal.SIGKILL)
    put(store, path, data)
store_s3._put = put_or_die
log = PredictionLog(Path(sys.argv[1]), store=sys.argv[2])
log.append(sampled("a", b"a"))
log.close()
"""


def test_killed_between_image_and_segment_a_bucket_shows_nothing_and_gets_all(bucket: str, make_log, tmp_path: Path):
    put_image(tmp_path / "log", "a", b"a")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "log"), bucket]
    died = subprocess.run(command, cwd=ROOT, env=dict(os.environ), check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    filesystem, prefix = pyarrow.fs.FileSystem.from_uri(bucket)

    def objects() -> list[str]:
        found = filesystem.get_file_info(pyarrow.fs.FileSelector(prefix, recursive=True))
        return sorted(Path(info.path).suffix for info in found if info.is_file)

    assert (objects(), open_store(bucket).stems(), ids(bucket)) == ([""], [], [])
    make_log(bucket).close()
    assert (objects(), ids(bucket), stored(bucket, b"a")) == (["", ".parquet"], ["a"], [b"a"])


def test_what_is_closed_is_shipped_and_read_back_equal(store: str, make_log, tmp_path: Path):
    odd = {
        "labels": ['a "b"', "c,\\d{}\n", ""],
        "confidences": [1 / 3, float("nan"), 1e-30],
        "latency_ms": float("nan"),
    }
    records = [
        new("plain"),
        new("none", count=0, embedding=[], **{name: [] for name in ("labels", "confidences", "areas")}),
        new('é,"\n', **odd),
    ]
    log = make_log(store)
    for number, each in enumerate(records):
        assert log.append(each | {"time": NOW + timedelta(seconds=number), "image": None if number else ""})
    assert read_log(store).num_rows == 0
    log.close()
    shipped = read_log(store)
    assert shipped.schema == RECORD
    assert shipped.num_rows == 3
    assert shipped.equals(read_log(tmp_path / "log"))
    assert (log.unshipped, log.problem) == (0, "")


def test_filters_hold_in_the_store_and_the_folder_has_the_rest(store: str, make_log, tmp_path: Path):
    log, now = make_log(store), datetime.now(UTC)
    for number, (model, version) in enumerate([("steel", "1"), ("steel", "2"), ("pcb", "1"), ("steel", "1")]):
        log.append(new(str(number), model=model, version=version, time=now + timedelta(minutes=number)))
    log.close()
    assert ids(store, model="steel", version="1") == ["0", "3"]
    assert ids(store, since=now + timedelta(minutes=1), until=now + timedelta(minutes=3)) == ["1", "2"]
    assert ids(store, since=now - timedelta(minutes=1), model="pcb") == ["2"]
    assert ids(store, until=now - timedelta(days=1)) == ids(store, since=now + timedelta(days=1)) == []
    fresh = make_log(store)
    fresh.append(new("open", time=now))
    assert ids(tmp_path / "log", store=store) == ["0", "1", "2", "3", "open"]  # none twice
    assert ids(tmp_path / "elsewhere", store=store) == ["0", "1", "2", "3"]


def test_a_segment_that_is_brought_twice_stands_there_once(store: str, make_log, tmp_path: Path):
    log = make_log(store)
    log.append(new("a"))
    log.close()
    (mark,) = (tmp_path / "log").glob("*.shipped")
    mark.unlink()  # as if it was killed between the store and the mark
    make_log(store).close()
    assert mark.exists()
    assert ids(store) == ["a"]


def test_what_was_closed_before_there_was_a_store_goes_there_and_to_the_next_one(store: str, tmp_path: Path, make_log):
    log = make_log()
    log.append(new("a"))
    log.close()
    down = make_log(NOWHERE)
    until(lambda: down.problem)
    down.close()
    assert down.unshipped == 1
    make_log(store).close()
    assert ids(store) == ["a"]


def test_a_store_that_is_down_costs_nothing_and_gets_all_when_it_is_back(
    database: str, postgres: Postgres, make_log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shipping, "_RETRY_SECONDS", 0.05)
    postgres.stop()
    log = make_log(database, segment_bytes=1)
    try:
        assert all(log.append(new(str(n))) for n in range(5))
        until(lambda: log.unshipped > 1)
        until(lambda: log.problem)
        assert "postgresql://tester@/postgres" in log.problem
        assert "cannot be written" in log.problem
        assert PASSWORD not in log.problem
        assert ids(tmp_path / "log") == list("01234")
    finally:
        postgres.start()
    until(lambda: (log.unshipped, log.problem) == (0, ""))
    log.close()
    assert ids(database) == list("01234")


def test_what_no_store_has_stays_until_there_is_no_room(make_log, tmp_path: Path):
    folder = tmp_path / "log"
    lines_of(folder, "a")
    (closed,) = folder.iterdir()
    old = f"{NOW - timedelta(days=20):%Y%m%dT%H%M%S%f}Z-1-00000001.parquet"
    closed.rename(folder / old)
    log = make_log(NOWHERE, max_age_days=10)
    until(lambda: log.problem)
    log.close()
    assert ids(folder) == ["a"]
    small = make_log(NOWHERE, max_bytes=(folder / old).stat().st_size)
    until(lambda: small.counts["unshipped"] == 1)
    assert ids(folder) == []
    small.close()


def test_a_segment_that_cannot_be_read_holds_up_no_other(database: str, make_log, tmp_path: Path):
    log = make_log()
    log.append(new("a"))
    log.close()
    (tmp_path / "log" / "20260302T110000000000Z-1-0a1b2c3d.parquet").write_bytes(b"no Parquet")
    log = make_log(database)
    until(lambda: log.problem)
    assert "0a1b2c3d.parquet: cannot be read" in log.problem
    assert log.unshipped == 1
    assert ids(database) == ["a"]


def test_what_is_old_goes_from_the_database_with_its_images(database: str, make_log, tmp_path: Path):
    for name, days in (("old", 11), ("new", 9)):
        put_image(tmp_path / "log", name, name.encode())
        log = make_log(database, max_age_days=10)
        log.append(sampled(name, name.encode(), time=NOW - timedelta(days=days)))
        log.close()
    assert ids(database) == ["new"]
    with psycopg.connect(database) as connection:
        files = connection.execute("SELECT data FROM visionops_predictions_files").fetchall()
    assert files == [(b"new",)]


def test_a_table_of_an_older_version_gets_the_new_columns(database: str, make_log):
    log = make_log(database)
    log.append(new("a"))
    log.close()
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE visionops_predictions DROP COLUMN image")
        connection.execute("DROP TABLE visionops_predictions_files")
    assert stored(database, b"b") == [None]
    log = make_log(database)
    log.append(new("b", image="images/b.png"))
    log.close()
    assert read_log(database)["image"].to_pylist() == [None, "images/b.png"]


CHILD = """
import sys
from pathlib import Path
from tests.monitoring.test_stores import put_image, sampled, until
from visionops.monitoring.log import PredictionLog
log = PredictionLog(Path(sys.argv[1]), segment_bytes=1, store=sys.argv[2])
for name in ("a", "b"):
    put_image(Path(sys.argv[1]), name, name.encode())
    assert log.append(sampled(name, name.encode()))
    until(lambda: list(Path(sys.argv[1]).glob("*.shipped")))
    print(flush=True)
    sys.stdin.readline()
"""
HOLD_INSERTS = """
CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE TRIGGER hold BEFORE INSERT ON visionops_predictions FOR EACH ROW EXECUTE FUNCTION hold();
"""
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"


class Grades(ClassificationTask):
    """A task that only some processes have."""

    name = "grades"
    record_columns: ClassVar = (RecordColumn("grade"), RecordColumn("parts", is_list=True))


def test_columns_of_a_task_come_where_its_package_is(store: str, make_log, tmp_path: Path):
    log = make_log(store=store)
    log.append(new("without"))
    log.close()
    register(Grades())
    try:
        (row,) = read_log(store).to_pylist()
        assert (row["grade"], row["parts"]) == (None, None)
        log = make_log(store=store)
        log.append(new("with", grade=0.5, parts=[0.25, 0.75]))
        log.close()
        rows = {row["request_id"]: row for row in read_log(store).to_pylist()}
        assert (rows["with"]["grade"], rows["with"]["parts"]) == (0.5, [0.25, 0.75])
        assert rows["without"]["grade"] is None
    finally:
        unregister("grades")
    assert read_log(store).schema == RECORD
    assert sorted(ids(store)) == ["with", "without"]


def test_killed_while_it_ships_nothing_is_lost_or_there_twice(database: str, make_log, tmp_path: Path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "log"), database]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), **pipes) as process,
        psycopg.connect(database, autocommit=True) as holder,
    ):
        assert process.stdout.readline() == "\n"
        holder.execute(HOLD_INSERTS)
        holder.execute("SELECT pg_advisory_lock(1)")
        process.stdin.write("\n")
        process.stdin.flush()
        until(lambda: holder.execute(WAITS).fetchone() == (1,))
        process.kill()
        process.wait(60)
        holder.execute("SELECT pg_advisory_unlock(1)")
        assert ids(database) == ["a"]
        files = "SELECT data FROM visionops_predictions_files ORDER BY data"
        assert holder.execute(files).fetchall() == [(b"a",)]  # killed between image and record
        make_log(database).close()
        assert holder.execute(files).fetchall() == [(b"a",), (b"b",)]
    assert ids(database) == ["a", "b"]


def test_an_object_that_cannot_be_read_and_a_store_that_cannot_be_reached_are_one_line(bucket: str, database: str):
    store, prefix = pyarrow.fs.FileSystem.from_uri(bucket)
    with store.open_output_stream(f"{prefix}/{NOW:%Y%m%dT%H%M%S%f}Z-1-0a1b2c3d.parquet") as stream:
        stream.write(b"no Parquet")
    with store.open_output_stream(f"{prefix}/mine.parquet") as stream:
        stream.write(b"not looked at")
    for place, words in (
        (bucket, "s3://parts/log: cannot be read .*AWS_ENDPOINT_URL"),
        ("s3://nowhere/log", "s3://nowhere/log: cannot be read .*check the name"),
        (NOWHERE, "cannot be read .*check the address, PGPASSWORD"),
        (database.replace("tester", "stranger"), "cannot be read .*authentication failed"),
        ("https://example.org/log", "must be s3://bucket/prefix or postgresql://"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            read_log(place)
        assert "\n" not in str(caught.value)
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://a:{PASSWORD}@h/d",
        f"postgresql://h/d?user=a&password={PASSWORD}",
        f"s3://key:{PASSWORD}@bucket/log",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(uri: str):
    with pytest.raises(ConfigError, match=r"--prediction-log-store: holds a password; .*PGPASSWORD") as caught:
        Settings.parse(["--prediction-log", "log", "--prediction-log-store", uri], {})
    assert PASSWORD not in str(caught.value)
    with pytest.raises(ValueError, match="holds a password"):
        ServingConfig(prediction_log_store=uri)
    with pytest.raises(DataError) as refused:
        open_store(uri)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("uri", ["/data/log", "s3://", "mysql://h/d", "postgresql:/d", ""])
def test_what_names_no_store_is_refused(uri: str):
    with pytest.raises(ValueError, match="must be s3://bucket/prefix or postgresql://user@host/database"):
        check_store(uri)
