"""Test the checks of MLflow's servers, databases and registry."""

import contextlib
import importlib.util
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

import stacks.doctor.tracking as tracking_module
from stacks.doctor.findings import CheckResult, Examined
from stacks.doctor.tracking import check_registry, check_tracker
from stacks.spec import ComponentType
from tests.helpers.doctor import MLFLOW, examined, mlflow_answers, trouble, well
from tests.helpers.web import answering

pytestmark = pytest.mark.filterwarnings("ignore")  # ZenML, SQLAlchemy and MLflow warn of their own code


def tracker(url: str, **own: Any) -> Examined:
    return examined("experiment_tracker", "mlflow", tracking_uri=url, **own)


def test_a_tracking_server_that_is_well():
    with answering(mlflow_answers(), authorization="Bearer good") as server:
        assert well(check_tracker(tracker(server.url, tracking_token="good"))) == f"{server.url}: MLflow {MLFLOW}"
        assert {request.partition(" ")[0] for request in server.asked} == {"GET"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"/version": "1.30.0"}, rf"broken: .*MLflow 1.30.0, but this machine has {MLFLOW}; run MLflow {MLFLOW} there"),
        ({"/version": MLFLOW.partition(".")[0] + ".0.1"}, "warning: .*0.1 is older than .* here; run MLflow"),
        ({"/version": "<html>"}, "answers, but is not MLflow .*; set VISIONOPS_MLFLOW"),
        ({"/api/2.0/mlflow/experiments/search": "<html>"}, "answers, but is not MLflow; log in to the proxy"),
        ({"/api/2.0/mlflow/experiments/search": 403}, "forbids the request .*; grant this user the right"),
        ({"/api/2.0/mlflow/experiments/search": 500}, "fails .*500.*; see the server's log; its database"),
        (
            {"/api/2.0/mlflow-artifacts/artifacts": 500},
            "cannot read its artifacts .*; give it credentials for its --artifacts-destination",
        ),
        (
            {"/api/2.0/mlflow/experiments/search": {"experiments": [{"artifact_location": "/mlruns/0"}]}},
            "warning: .*keeps artifacts in /mlruns/0, .*--serve-artifacts",
        ),
    ],
)
def test_what_is_wrong_with_a_tracking_server_is_named(changes, says):

    with answering(mlflow_answers(**changes)) as server:
        seen = trouble(check_tracker(tracker(server.url)))
    assert re.search(says, seen), seen


def test_a_tracking_server_that_is_away_or_refuses_the_login_is_named(nobody, monkeypatch):
    assert "does not answer (connection refused); start its server" in trouble(check_tracker(tracker(nobody)))
    with answering(mlflow_answers(), authorization="Bearer good") as server:
        seen = trouble(check_tracker(tracker(server.url, tracking_token="expired")))
        assert "refuses the login (401); set a valid token or password (MLFLOW_TRACKING_TOKEN)" in seen
        registry = examined("model_registry", "mlflow")
        registry.stack.components[ComponentType.EXPERIMENT_TRACKER] = tracker(server.url).component
        monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
        assert "refuses the login (401); set MLFLOW_TRACKING_TOKEN" in trouble(check_registry(registry))
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "good")
        assert well(check_registry(registry))


def test_a_tracking_database_of_another_version_is_named(tmp_path):
    def seen() -> list[CheckResult]:
        return list(check_tracker(tracker(f"sqlite:///{tmp_path}/mlflow.db")))

    def of_schema(name: str) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
            database.execute("DELETE FROM alembic_version")
            database.execute("INSERT INTO alembic_version VALUES (?)", [name])

    assert "writable" in well(seen())
    assert not (tmp_path / "mlflow.db").exists()
    of_schema("451aebb31d03")  # of MLflow 1.0
    assert "mlflow.db: written by an older MLflow; back it up, then mlflow db upgrade sqlite:///" in trouble(seen())
    of_schema("fffffffffff0")
    assert "newer MLflow than" in trouble(seen())
    (tmp_path / "mlflow.db").write_bytes(b"no database at all, and longer than a header")
    assert "not a database of MLflow (file is not a database); restore it, or move it away" in trouble(seen())


def test_the_newest_version_of_a_database_is_the_one_that_alembic_finds():
    place = importlib.util.find_spec("mlflow")
    migrations = Path(place.submodule_search_locations[0], "store", "db_migrations")
    heads = ScriptDirectory(str(migrations)).get_heads()
    assert tracking_module._schemas()[1] == set(heads)
