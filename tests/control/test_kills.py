"""Killed at any moment: each acknowledged run, decision and export of the control service is there exactly once.

`make kills` kills 200 times; the seed is fixed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.control.conftest import write_use_case
from tests.helpers.control_crashes import CASES, Service, check_runs, kill_often, talking
from tests.helpers.postgres import PASSWORD, postgres_server
from tests.helpers.review import STEEL
from tests.helpers.review_crashes import check
from visionops.review_store.opening import DATABASE, IMAGES, INDEX, open_database, review_over
from visionops.review_store.runs import SqlRunStore

KILLS = int(os.environ.get("VISIONOPS_KILLS", "3"))


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if request.param == "sqlite":
        yield str(tmp_path / "review.db")
        return
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with postgres_server() as server:
        yield server.uri


@pytest.fixture
def service(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(CASES):
        write_use_case(tmp_path / "configs", f"case-{number}", cooldown_hours=0)
    environment = {DATABASE: database, IMAGES: str(tmp_path / "images"), INDEX: str(tmp_path / "index")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "://" in database:
        environment["PGPASSWORD"] = PASSWORD
    made = Service(tmp_path, tmp_path / "configs", environment)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.join(60)


@pytest.fixture
def opened(service: Service):
    database = open_database()
    review, store = review_over(database), SqlRunStore(database)
    review.put_use_case(STEEL)
    yield review, store
    review.close()
    database.close()


def test_what_the_service_acknowledged_outlives_any_kill(service: Service, opened, tmp_path: Path):
    review, store = opened
    service.start()
    with talking(service, tmp_path / "notes") as talkers:
        kill_often(service, talkers, KILLS, 11)
        service.until_ready()
    runs = check_runs(store, service, talkers)
    done = check(review, tmp_path / "notes")
    assert min(runs["retrain"], runs["promote"], runs["rollback"], done["decide"], done["export"]) > 0
    answers = sum((talker.answers for talker in talkers), talkers[0].answers.__class__())
    print(f"{KILLS} kills: {dict(done)}, runs {dict(runs)}; answers {dict(answers)}")  # noqa: T201
