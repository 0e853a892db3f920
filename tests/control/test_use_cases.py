"""Use cases as files of one folder: checked as text, and saved without overwriting others."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.control.use_cases import UseCases
from tests.control.conftest import write_use_case
from visionops.errors import ConfigError
from visionops.review.errors import Conflict, Invalid, Unavailable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_use_case(tmp_path / "configs", "steel", cooldown_hours=3)
    return tmp_path / "configs"


def renamed(cases: UseCases, name: str) -> str:
    return cases.text("steel").replace("name: steel", f"name: {name}")


def test_a_text_is_checked_with_its_line(folder: Path):
    cases = UseCases(folder)
    found = cases.check(cases.text("steel"), "steel.yaml")
    assert (found.name, found.path, found.cooldown_hours, found.metric) == ("steel", folder / "steel.yaml", 3, "map50")
    with pytest.raises(ConfigError, match=r"^new\.yaml:\d+: .*gaet"):
        cases.check(cases.text("steel") + "gaet: {}\n", "new.yaml")


def test_a_text_becomes_a_new_file(folder: Path):
    cases = UseCases(folder)
    text = renamed(cases, "iron")
    assert cases.save(text, "iron.yaml").name == "iron"
    assert (folder / "iron.yaml").read_text() == text
    assert [one.name for one in cases.all()[0]] == ["iron", "steel"]
    assert sorted(path.name for path in folder.iterdir()) == ["iron.yaml", "steel.yaml"]


def test_a_file_is_replaced_only_where_that_is_wanted(folder: Path):
    cases = UseCases(folder)
    before, changed = cases.text("steel"), cases.text("steel") + "# changed\n"
    with pytest.raises(Conflict, match=r"^steel\.yaml: exists; choose another name, or replace it$"):
        cases.save(changed, "steel.yaml")
    assert cases.text("steel") == before
    (folder / "steel.yaml").chmod(0o640)
    cases.save(changed, "steel.yaml", replace=True)
    assert cases.text("steel") == changed
    assert (folder / "steel.yaml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "file", ["../two.yaml", "/etc/two.yaml", ".yaml", "two.yml", "a/b.yaml", "two.yaml\n", "-x.yaml"]
)
def test_no_name_leaves_the_folder(folder: Path, file: str):
    cases = UseCases(folder)
    with pytest.raises(Invalid, match="a file name has lower-case letters"):
        cases.save(renamed(cases, "two"), file)
    assert [path.name for path in folder.iterdir()] == ["steel.yaml"]


def test_a_use_case_has_one_file(folder: Path):
    cases = UseCases(folder)
    with pytest.raises(ConfigError, match=r"two\.yaml: names steel, as steel\.yaml does"):
        cases.save(cases.text("steel"), "two.yaml")


def test_a_folder_that_is_gone_is_said(folder: Path):
    cases = UseCases(folder)
    text = renamed(cases, "two")
    (folder / "steel.yaml").unlink()
    folder.rmdir()
    with pytest.raises(Unavailable, match="cannot be written"):
        cases.save(text, "two.yaml")
