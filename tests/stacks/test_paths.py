"""Test which folder names work, and the one-line error for others."""

from __future__ import annotations

from importlib.machinery import ModuleSpec

import pytest

from stacks import paths
from stacks.paths import require_usable_paths
from visionops.errors import StackError


@pytest.mark.parametrize("name", ["a b", "[x]", "50%", "%41 100%", "#1", "ä", '"x"', "$HOME", "a;b&c", "{x}"])
def test_folders_that_can_be_worked_in(tmp_path, monkeypatch, name):
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / name))
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / name))
    require_usable_paths()


@pytest.mark.parametrize(
    ("variable", "character", "library"),
    [
        ("VISIONOPS_HOME", "?", "SQLite"),
        ("VISIONOPS_HOME", "\\", "ZenML"),
        ("VISIONOPS_HOME", "'", "Ultralytics"),
        ("ZENML_CONFIG_PATH", "?", "SQLite"),
        ("ZENML_CONFIG_PATH", "\\", "ZenML"),
    ],
)
def test_folders_that_a_library_cannot_work_in(tmp_path, monkeypatch, variable, character, library):
    folder = tmp_path / f"a{character}b"
    monkeypatch.setenv(variable, str(folder))
    with pytest.raises(StackError) as error:
        require_usable_paths()
    assert str(error.value) == (
        f"{folder}: {library} cannot work in a folder with {character} in its path; set {variable} to another"
    )


def test_an_environment_in_a_folder_with_a_percent_sign(monkeypatch):
    place = "/home/50%/.venv/lib/python3.11/site-packages"
    monkeypatch.setattr(paths, "find_spec", lambda name: ModuleSpec(name, None, origin=f"{place}/{name}/__init__.py"))
    with pytest.raises(
        StackError, match=f"^{place}/zenml: zenml cannot be used from a folder with % in its path; move"
    ):
        require_usable_paths()
