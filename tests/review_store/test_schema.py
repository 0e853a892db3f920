"""The schema of the database: created once, equal to the models, and migrated from every earlier version."""

from __future__ import annotations

import dataclasses
import re
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, inspect, text
from sqlalchemy.orm import Session

from tests.helpers.disks import mounted
from tests.helpers.postgres import PASSWORD, Postgres
from tests.helpers.review import ANNA, NOW, STEEL, UPLOAD, png
from visionops.review.errors import Invalid, OtherSchema, Unavailable
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer, Review
from visionops.review.states import Verdict
from visionops.review_store.database import Database
from visionops.review_store.images import open_images
from visionops.review_store.opening import open_review
from visionops.review_store.schema import VERSION_TABLE, migrate, revisions, upgrade
from visionops.review_store.store import SqlReviewStore
from visionops.review_store.tables import Base

ROWS = Path(__file__).parent / "rows"
"""SQL with the rows that a program of each schema version left, ``0001.sql``."""
CONFIRM = Answer(Verdict.CONFIRM)
TABLES = set(Base.metadata.tables)


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
    ours = [d for d in compare_metadata(context, Base.metadata) if "remove_table" not in str(d[0])]
    names = {t: {c["name"] for c in inspect(connection).get_check_constraints(t)} for t in TABLES}
    wanted = {
        t.name: {str(c.name) for c in t.constraints if isinstance(c, CheckConstraint)}
        for t in Base.metadata.tables.values()
    }
    return [*ours, *(t for t in TABLES if names[t] != wanted[t])]


def test_migrations_make_what_the_models_say(place: str):
    database = Database(place)
    assert migrate(database) == (None, revisions()[-1])
    with database.engine.connect() as connection:
        assert differences(connection) == []
    assert migrate(database) == (revisions()[-1], revisions()[-1])
    database.close()


@pytest.mark.parametrize("revision", revisions())
def test_rows_of_every_version_come_up_to_the_newest(place: str, revision: str, tmp_path: Path):
    database = Database(place)
    with Session(database.engine) as session, session.begin():
        session.connection(execution_options={"writes": True})
        upgrade(session.connection(), revision)
        for statement in (ROWS / f"{revision}.sql").read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                session.connection().exec_driver_sql(statement)
    if revision != revisions()[-1]:
        with pytest.raises(OtherSchema, match="`visionops review migrate`"):
            SqlReviewStore(database)
    assert migrate(database) == (revision, revisions()[-1])
    with database.engine.connect() as connection:
        assert differences(connection) == []
    review = Review(SqlReviewStore(database), open_images(str(tmp_path / "images")))
    states = {item.id[:4]: item.status.state.value for item in review.store.items(ItemFilter("steel"))}
    assert states == {"aaaa": "pending", "bbbb": "claimed", "cccc": "decided", "dddd": "exported"}
    ((item, decision),) = review.store.version("steel", 1)
    assert (item.first.comment, decision.reviewer) == ("it's bent", "anna")
    assert decision.label == {"boxes": [{"class_name": "dent", "box": [1.0, 2.0, 3.0, 4.0]}]}
    taken = review.claim_next("steel", ANNA, key="k", now=NOW)
    assert taken is not None
    assert taken.id[:4] == "aaaa"
    assert [one.reviewer for one in review.store.opinions("c" * 32)] == (["bea", "anna"] if revision == "0004" else [])
    assert review.store.second_share("steel") == (0.25 if revision == "0004" else 0)
    review.set_second_share("steel", 1)
    assert review.decide(taken.id, CONFIRM, ANNA, key="d", now=NOW).status.reviewers == ("anna",)
    database.close()


def test_every_version_has_its_rows():
    assert sorted(path.stem for path in ROWS.glob("*.sql")) == revisions()


@pytest.mark.parametrize(
    ("present", "words"),
    [("0000", "which this version does not know; install the newer version"), ("x' OR 1", "does not know")],
)
def test_a_later_schema_is_refused(place: str, present: str, words: str):
    database = Database(place)
    migrate(database)
    with Session(database.engine) as session, session.begin():
        session.connection(execution_options={"writes": True})
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :new"), {"new": present})
    for call in (SqlReviewStore, migrate):
        with pytest.raises(OtherSchema, match=words) as caught:
            call(database)
        assert "\n" not in str(caught.value)
    database.close()


def test_an_earlier_schema_is_refused_with_the_command_that_migrates(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
):
    database = Database(sqlite_database)
    migrate(database)
    monkeypatch.setattr("visionops.review_store.schema.revisions", lambda: [*revisions(), "9999"])
    with pytest.raises(OtherSchema, match=r"has the review schema \d+, this version needs 9999; .*review migrate`"):
        SqlReviewStore(database)
    database.close()


def test_many_who_open_an_empty_database_at_once_make_it_once(place: str):
    start = threading.Barrier(4)

    def work(_: int) -> None:
        start.wait()
        database = Database(place)
        SqlReviewStore(database).put_use_case(STEEL)
        database.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [None] * 4


def test_other_tables_in_the_database_are_left_alone(postgres_database: str):
    database = Database(postgres_database)
    with Session(database.engine) as session, session.begin():
        session.execute(text("CREATE TABLE alembic_version (version_num text)"))  # of MLflow
        session.execute(text("INSERT INTO alembic_version VALUES ('of another program')"))
    SqlReviewStore(database)
    with Session(database.engine) as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == "of another program"
    database.close()


def test_sqlite_is_opened_as_it_must_be(sqlite_database: str):
    database = Database(sqlite_database)
    SqlReviewStore(database)
    with database.engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        }
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 20_000, "synchronous": 2}
    database.close()


def test_a_database_that_goes_down_is_unavailable_and_then_serves_again(
    postgres_database: str, postgres: Postgres, opened, folder: str
):
    review = opened(postgres_database, folder)
    review.add("steel", png(1), UPLOAD, ANNA, key="a", now=NOW)
    postgres.stop()
    try:
        for call in (
            lambda: review.add("steel", png(2), UPLOAD, ANNA, key="b", now=NOW),
            lambda: review.claim_next("steel", ANNA, key="c", now=NOW),
            lambda: review.store.items(ItemFilter()),
            lambda: SqlReviewStore(Database(postgres_database)),
        ):
            with pytest.raises(Unavailable, match="check the address, PGPASSWORD and the rights") as caught:
                call()
            assert "\n" not in str(caught.value)
            assert PASSWORD not in str(caught.value)
            assert caught.value.status == 503
    finally:
        postgres.start()
    assert review.add("steel", png(2), UPLOAD, ANNA, key="b", now=NOW).is_new
    assert review.store.stats("steel").states["pending"] == 2


def test_a_full_disk_is_unavailable_and_writes_nothing_half(tmp_path: Path, opened, folder: str):
    with mounted(tmp_path / "small", "size=1m") as disk:
        review = opened(str(disk / "review.db"), folder)
        done = []

        def fill() -> None:
            for number in range(1000):
                arrival = dataclasses.replace(UPLOAD, comment="x" * 4000)
                review.add("steel", png(number), arrival, ANNA, key=str(number), now=NOW)
                done.append(number)

        with pytest.raises(Unavailable, match="free some space"):
            fill()
        items = review.store.items(ItemFilter("steel", limit=1000))
        assert len(items) == len(done)
        assert all(len(review.store.history(item.id)) == 1 for item in items)
        for path in disk.glob("*.db-*"):
            assert path.stat().st_size < 2**20
        review.store.close()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mysql://h/d", "must be s3://bucket/prefix or postgresql://user@host/database"),
        ("s3://bucket/x", "must be a path, or postgresql://user@host/database"),
        (f"postgresql://a:{PASSWORD}@h/d", "holds a password; remove it and set PGPASSWORD"),
    ],
)
def test_what_names_no_database_is_refused(place: str, words: str):
    with pytest.raises(Invalid, match=re.escape(words)) as caught:
        Database(place)
    assert PASSWORD not in str(caught.value)


def test_a_file_that_is_no_database_and_one_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "text.db").write_text("This is no database, but a text that is long enough to be looked at. " * 50)
    (tmp_path / "file").touch()
    for place in (tmp_path / "text.db", tmp_path / "file" / "review.db", tmp_path):
        with pytest.raises(Unavailable, match=re.escape(f"{place}: cannot be ")) as caught:
            SqlReviewStore(Database(str(place)))
        assert "\n" not in str(caught.value)
    assert (tmp_path / "text.db").read_text().startswith("This is")


def test_the_environment_names_database_and_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with open_review() as review:
        review.put_use_case(STEEL)
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "a.db"))
    monkeypatch.setenv("VISIONOPS_REVIEW_IMAGES", str(tmp_path / "images"))
    with open_review() as review:
        assert review.store.use_cases() == []
        review.put_use_case(STEEL)
        review.add("steel", png(1), UPLOAD, ANNA, key="a", now=NOW)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert connection.execute("SELECT count(*) FROM review_items").fetchone() == (1,)
    connection.close()
    assert len(list((tmp_path / "images").rglob("*"))) == 2
