"""Test `dvc repro` with a real DVC in a copy of the project with its own repository: make dvc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ROOT, Machine, write_tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not os.environ.get("VISIONOPS_WHOLE") or not shutil.which("dvc"), reason="it takes minutes: make dvc"
    ),
]
CODE = ("configs", "deploy", "launch", "materializers", "pipelines", "stacks", "steps", "visionops", ".dvc")
FILES = ("run.py", "pyproject.toml", "requirements.lock", "dvc.yaml", ".dvcignore", ".gitignore")


class Project:
    """A copy of the project with a use case that takes seconds."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder, self.env = folder, machine.env | {"PYTHONPATH": str(folder)}
        skipped = shutil.ignore_patterns("__pycache__", "cache", "tmp", "config.local", "charts")
        for name in CODE:
            shutil.copytree(ROOT / name, folder / name, ignore=skipped, symlinks=True)
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(ROOT / ".venv")
        write_tiny(folder / "configs" / "sample.yaml", "by-dvc")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)

    def dvc(self, *arguments: str) -> str:
        done = subprocess.run(
            ["dvc", *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def report(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "reports" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def project(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project") / "copy", machine)
    made.dvc("repro")
    return made


def test_the_stages_leave_what_they_found(project):
    assert project.report("validation")["use_case"] == "by-dvc"
    assert int(project.report("training")["model"]["version"]) >= 1
    assert "map50" in project.dvc("metrics", "show")
    assert set(yaml.safe_load((project.folder / "dvc.lock").read_text())["stages"]) == {"validate", "train"}


def test_what_has_not_changed_is_not_done_again(project):
    before = (project.folder / "reports" / "training.json").read_bytes()
    said = project.dvc("repro")
    assert said.count("didn't change, skipping") == 2
    assert (project.folder / "reports" / "training.json").read_bytes() == before


def test_a_changed_use_case_is_trained_again(project):
    before = int(project.report("training")["model"]["version"])
    path = project.folder / "configs" / "sample.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 1"))
    project.dvc("repro")
    assert int(project.report("training")["model"]["version"]) == before + 1


def test_data_of_ones_own_are_tracked_where_the_guide_says(project):
    (project.folder / "data" / "castings" / "ok").mkdir(parents=True)
    (project.folder / "data" / "castings" / "ok" / "1.png").write_bytes(b"one")
    project.dvc("add", "data/castings")
    said = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all", "data"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Images are not listed. DVC writes a .gitignore only if git does not already ignore them.
    assert set(said.splitlines()) - {"?? data/.gitignore"} == {"?? data/castings.dvc"}


def test_what_was_found_goes_to_a_remote_and_comes_back(project, tmp_path):
    project.dvc("remote", "add", "--default", "here", str(tmp_path / "remote"))
    project.dvc("push")
    before = (project.folder / "reports" / "training.json").read_bytes()
    shutil.rmtree(project.folder / "reports")
    shutil.rmtree(project.folder / ".dvc" / "cache")
    project.dvc("pull")
    assert (project.folder / "reports" / "training.json").read_bytes() == before
