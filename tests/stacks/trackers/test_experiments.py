"""Test that experiments are created once, with our artifact location."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from stacks.trackers.experiments import ensure_experiment
from visionops.errors import StackError


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Return a database in a folder that does not exist yet."""
    return f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_files_of_a_run_go_below_the_given_root(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = ensure_experiment(uri, "steel", tmp_path / "files")
    assert ensure_experiment(uri, "steel", tmp_path / "elsewhere") == first
    client = mlflow.MlflowClient(uri)
    run = client.create_run(first)
    (tmp_path / "x.txt").write_text("x")
    client.log_artifact(run.info.run_id, tmp_path / "x.txt")
    assert list((tmp_path / "files" / "steel").rglob("x.txt"))
    assert not (tmp_path / "mlruns").exists()
    client.delete_experiment(first)
    assert ensure_experiment(uri, "steel", tmp_path / "files") == first
    assert client.get_experiment(first).lifecycle_stage == "active"


def test_a_database_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"file/mlflow.db: cannot prepare experiment 'x'") as caught:
        ensure_experiment(f"sqlite:///{tmp_path}/file/mlflow.db", "x", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_server_keeps_its_own_artifact_root(tmp_path, monkeypatch):
    locations = []

    def create(_name, location):
        locations.append(location)
        return "7"

    client = SimpleNamespace(get_experiment_by_name=lambda _name: None, create_experiment=create)
    monkeypatch.setattr(mlflow, "MlflowClient", lambda _uri: client)
    assert ensure_experiment("http://tracker:5000", "x", tmp_path) == "7"
    assert locations == [None]
    assert list(tmp_path.iterdir()) == []
