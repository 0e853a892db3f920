"""Kill the service or its database at any moment: every acknowledged run exists exactly once.

`make kills` kills 200 times; the seeds are fixed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.control.conftest import write_use_case
from tests.helpers import database_crashes
from tests.helpers.control_crashes import CASES, Service, Talker, check_runs, kill_often, talking
from tests.helpers.postgres import PASSWORD, postgres_server
from tests.helpers.review import STEEL
from tests.helpers.review_crashes import check, items_of
from visionops.review.intake import Intake
from visionops.review.server_logs import ServerLogs
from visionops.review.service import Review
from visionops.review.settings import ReviewConfig
from visionops.review_store.database import Database
from visionops.review_store.likeness import SqlLikenessStore
from visionops.review_store.opening import DATABASE, IMAGES, INDEX, open_database, review_over
from visionops.review_store.runs import SqlRunStore
from visionops.similarity.embedding import ShapeEmbedder

pytestmark = pytest.mark.kills

KILLS = int(os.environ.get("VISIONOPS_KILLS", "2"))
PLACES = ["sqlite", "postgres"] if "VISIONOPS_KILLS" in os.environ else ["sqlite"]
"""By default the service is killed on PostgreSQL, and PostgreSQL itself too."""


@contextmanager
def started(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, Review, Database]]:
    """A service over an empty database, and a second connection to the database."""
    for number in range(CASES):
        write_use_case(tmp_path / "configs", f"case-{number}")
    write_use_case(tmp_path / "configs", STEEL.name)
    environment = {DATABASE: place, IMAGES: str(tmp_path / "images"), INDEX: str(tmp_path / "index")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    database = open_database()
    review = review_over(database)
    review.put_use_case(STEEL)
    service = Service(tmp_path, tmp_path / "configs", environment | {"PGPASSWORD": PASSWORD})
    service.start()
    try:
        yield service, review, database
    finally:
        service.close()
        review.close()
        database.close()


def answers_of(talkers: list[Talker]) -> dict[str, int]:
    return dict(sum((talker.answers for talker in talkers), Counter[str]()))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "review.db")
        return
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with postgres_server() as server:
        yield server.uri


def test_what_the_service_acknowledged_outlives_any_kill(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with started(tmp_path, place, monkeypatch) as (service, review, database):
        with talking(service, tmp_path / "notes") as talkers:
            kill_often(service, talkers, KILLS, 11)
            service.until_ready()
        runs = check_runs(SqlRunStore(database), service, talkers)
        done = check(review, tmp_path / "notes")
    assert min(runs["retrain"], runs["promote"], runs["rollback"], done["decide"]) > 0
    print(f"{KILLS} kills: {dict(done)}, runs {dict(runs)}; answers {answers_of(talkers)}")  # noqa: T201


@pytest.mark.skipif("VISIONOPS_KILLS" not in os.environ, reason="make kills")
def test_a_killed_database_loses_no_run_and_stops_no_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with (
        postgres_server() as server,
        started(tmp_path, server.uri, monkeypatch) as (service, review, database),
    ):
        service.until_ready()
        config = tmp_path / "configs" / f"{STEEL.name}.yaml"
        with (
            database_crashes.working(tmp_path, config, service.environment) as speaker,
            talking(service, tmp_path / "notes") as talkers,
        ):
            kills = database_crashes.kill_often(server, service, talkers, KILLS, 13)
        runs = check_runs(SqlRunStore(database), service, talkers)
        Intake(review, "steel", ServerLogs(tmp_path / "log"), ReviewConfig()).run(
            datetime.now(UTC) + timedelta(minutes=5)
        )
        said = [arrival.comment for item in items_of(review) for arrival in review.store.arrivals(item.id)]
        assert Counter(filter(None, said)) == Counter(speaker.said)

        store, seen = SqlLikenessStore(database), (tmp_path / "seen").read_text().split()
        rows = store.after("steel", ShapeEmbedder.kind, 0, 100_000)
        assert [row.position for row in rows] == [*range(1, len(rows) + 1)]
        digests = Counter(row.sha256 for row in rows)
        assert set(digests.values()) == {1}
        assert set(seen) <= set(digests)
        assert {item.image.sha256 for item in items_of(review)} <= set(digests)
        for digest in seen:
            assert store.known("steel", [digest])[digest].split == "train"
        done = check(review, tmp_path / "notes")
    answers = answers_of(talkers)
    assert answers["503 unavailable"] > 0
    assert min(runs["retrain"], done["decide"], len(speaker.said), len(seen)) > 0
    print(  # noqa: T201
        f"{dict(kills)} killed: {dict(done)}, runs {dict(runs)}, {len(speaker.said)} of feedback, {len(seen)} indexed; "
        f"answers {answers}"
    )
