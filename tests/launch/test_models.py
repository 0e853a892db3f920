"""`visionops models` and `bundle`: the list and the files of registered versions; files from a real MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from launch import models
from launch.models import export_bundle
from tests.helpers.tracking import add_version, make_tracking
from visionops.errors import ConfigError, RegistryError
from visionops.inference.bundle import ModelBundle
from visionops.registry import ModelRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    folder = tmp_path_factory.mktemp("mlflow")
    registry = ModelRegistry(make_tracking(folder))
    registry.promote(add_version(registry, "cells", folder, 1.0))
    add_version(registry, "cells", folder, 1.5)
    return registry


def test_list_names_versions_rolled_back_and_promoted_by_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rows = [
        {"version": "2", "aliases": [], "rolled_back": True, "gate": "refused", "promoted_by_hand": "ana: a test"},
        {"version": "1", "aliases": ["champion"], "rolled_back": False, "gate": "promoted", "promoted_by_hand": None},
    ]
    monkeypatch.setattr(models, "models_of", lambda names, stack: {"parts": {"champion": "1", "versions": rows}})
    with pytest.raises(typer.Exit) as ended:
        models.list_models(["parts"])
    assert ended.value.exit_code == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "parts: champion 1"
    assert second.startswith("     2  rolled back  ")
    assert second.endswith("refused; promoted by ana: a test")
    assert third.split() == ["1", "champion", "promoted"]


@pytest.mark.parametrize(("number", "written"), [(None, "1"), ("1", "1"), ("2", "2")])
def test_the_bundle_of_a_version_is_written(registry: ModelRegistry, tmp_path: Path, number: str | None, written: str):
    folder = tmp_path / "new" / "cells"
    version = export_bundle(registry, "cells", number, folder)
    assert version.version == written
    assert ModelBundle.load(folder).digest == version.digest
    assert [path.name for path in folder.parent.iterdir()] == ["cells"]


def test_nothing_is_written_over_a_folder(registry: ModelRegistry, tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="already exists; choose a folder"):
        export_bundle(registry, "cells", None, tmp_path)
    with pytest.raises(ConfigError, match="mine/cells: cannot be written"):
        export_bundle(registry, "cells", None, tmp_path / "mine" / "cells")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("cells", "9", "cells: has no version 9; `visionops models cells` lists them"),
        ("cells", "first", "cells: has no version first"),
        ("other", None, "other: no champion"),
    ],
)
def test_a_version_that_is_not_there_is_named(
    registry: ModelRegistry, tmp_path: Path, name: str, number: str | None, words: str
):
    with pytest.raises(RegistryError, match=words):
        export_bundle(registry, name, number, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
