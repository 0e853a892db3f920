"""Whether ZenML has a store is known without ZenML."""

from __future__ import annotations

from pathlib import Path

import pytest

from stacks.zenml_server import has_store

LOCAL = "store:\n  type: sql\n  url: sqlite:///x/zenml.db\n"
SERVER = "active_stack_id: null\nstore:\n  type: rest\n  url: https://zenml.example\n"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path))
    monkeypatch.delenv("ZENML_STORE_URL", raising=False)
    monkeypatch.delenv("ZENML_LOCAL_STORES_PATH", raising=False)


def test_a_folder_without_a_database_has_none(tmp_path: Path):
    assert not has_store()
    (tmp_path / "config.yaml").write_text(LOCAL)
    assert not has_store()


def test_a_database_a_server_and_a_variable_are_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "config.yaml").write_text(SERVER)
    assert has_store()
    (tmp_path / "config.yaml").write_text(LOCAL)
    database = tmp_path / "local_stores" / "default_zen_store" / "zenml.db"
    database.parent.mkdir(parents=True)
    database.touch()
    assert has_store()
    database.unlink()
    monkeypatch.setenv("ZENML_STORE_URL", "https://zenml.example")
    assert has_store()


def test_a_database_may_be_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ZENML_LOCAL_STORES_PATH", str(tmp_path / "stores"))
    assert not has_store()
    database = tmp_path / "stores" / "default_zen_store" / "zenml.db"
    database.parent.mkdir(parents=True)
    database.touch()
    assert has_store()
