"""Steps of the workflows, run in a clean clone; those that take more than a moment by `make workflows`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.helpers.exports import Made, export_yolo
from tests.workflows.runner import Ran, evaluate, jobs_of, run_job

needs_time = pytest.mark.skipif("VISIONOPS_WORKFLOWS" not in os.environ, reason="make workflows")
COMMIT = "0123456789abcdef"
GITHUB = {"repository": "Plant/Vision", "sha": COMMIT, "event_name": "push", "actor": "anna", "ref": "refs/heads/main"}
MAIN = GITHUB | {"ref_type": "branch", "ref_name": "main"}
TAG = GITHUB | {"ref_type": "tag", "ref_name": "v1.2.0", "ref": "refs/tags/v1.2.0"}
PULL = GITHUB | {"event_name": "pull_request", "ref_type": "branch", "ref_name": "12/merge"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What actions/checkout and `make .venv/installed` leave: the commit, and the environment that there is."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(folder / name, (0, 0))  # installed already
    return folder


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins for what only GitHub's machine has: each writes down how it was called."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("docker", "helm"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*"\ncase "$*" in *-stdin*) cat >/dev/null ;; esac\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("github.ref_type == 'tag'", True),
        ("inputs.url || vars.URL", "v"),
        ("!(github.ref_type != 'tag') && inputs.none == ''", True),
        ("failure()", False),
        ("always() && 'it''s'", "it's"),
    ],
)
def test_expressions_are_those_of_github(text: str, value: Any):
    context = {"github": {"ref_type": "tag"}, "inputs": {}, "vars": {"URL": "v"}, "failed": False}
    assert evaluate(text, context) == value


@pytest.mark.parametrize(
    ("github", "variant", "pushed"),
    [
        (MAIN, "cpu", f"ghcr.io/plant/vision/visionops-pipeline:{COMMIT}"),
        (MAIN, "gpu", f"ghcr.io/plant/vision/visionops-pipeline:{COMMIT}-gpu"),
        (TAG, "cpu", "ghcr.io/plant/vision/visionops-pipeline:1.2.0"),
        (PULL, "cpu", None),
    ],
)
def test_images_are_scanned_and_then_pushed_on_main_and_on_tags(tmp_path, programs, github, variant, pushed):
    (tmp_path / "folder").mkdir()
    (programs / "make").write_text('#!/bin/sh\necho "make $* as $REGISTRY/visionops-$IMAGES:$TAG"\n')
    (programs / "make").chmod(0o755)
    matrix = {"image": "pipeline", "tag": variant, "flags": ""}
    ran = run_job("images", "build", tmp_path / "folder", {"github": github, "matrix": matrix}, programs)
    assert ran.code == 0, ran.output
    assert "aquasecurity/trivy-action" in ran.left_out
    assert ("docker/login-action" in ran.left_out) is (pushed is not None)
    if pushed:
        assert ran.output.splitlines() == [f"make images PYTHON=python as {pushed}", f"docker push {pushed}"]
    else:
        assert "docker push" not in ran.output


def test_only_a_tag_publishes_the_chart(tmp_path, programs):
    assert jobs_of("images")["chart"]["if"] == "github.ref_type == 'tag'"
    context = {"github": TAG, "secrets": {"GITHUB_TOKEN": "t"}}
    ran = run_job("images", "chart", tmp_path, context, programs)
    assert (ran.code, ran.output.splitlines()[-1]) == (
        0,
        "helm push visionops-1.2.0.tgz oci://ghcr.io/plant/vision/charts",
    )


def test_a_step_that_fails_ends_the_job(tmp_path, programs):
    (programs / "make").write_text("#!/bin/sh\nexit 3\n")
    (programs / "make").chmod(0o755)
    context = {"github": MAIN, "matrix": {"image": "serving", "tag": "cpu", "flags": ""}}
    ran = run_job("images", "build", tmp_path, context, programs)
    assert (ran.code, ran.names[-1]) == (3, "make images PYTHON=python")


def data(clone: Path, archive: Path, sha256: str) -> Ran:
    inputs = {"url": archive.as_uri(), "sha256": sha256, "config": ""}
    return run_job("data", "integrity", clone, {"github": MAIN | {"event_name": "workflow_dispatch"}, "inputs": inputs})


@needs_time
def test_data_is_fetched_compared_and_looked_at(clone: Path, tmp_path: Path):
    images = [Made(f"{number}.png", 40, 30, [("scratch", (2.0, 2.0, 10.0, 9.0))], "train") for number in range(4)]
    export_yolo(tmp_path / "export", images, ("scratch",))
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "export"))
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    ran = data(clone, archive, right)
    assert ran.code == 0, ran.output
    assert (clone / "inspection").is_dir()
    assert ran.names[-1] == "What it holds"
    wrong = data(clone, archive, "0" * 64)
    assert wrong.names[-1] == "Its checksum is the one that was agreed on"
    assert wrong.code != 0


@needs_time
@pytest.mark.timeout(1800)
def test_a_training_has_the_epochs_batch_and_rate_that_were_asked_for(clone: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.setenv("VISIONOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(clone))
    inputs = {"config": "configs/sample.yaml", "epochs": "1", "batch": "16", "rate": "0.002"}
    context = {"github": MAIN | {"event_name": "workflow_dispatch"}, "inputs": inputs}
    ran = run_job("train", "train", clone, context)
    assert ran.code == 0, ran.output[-3000:]
    assert "metrics" in json.loads((clone / "summary.json").read_text())
    context["inputs"] |= {"action": "rollback", "stack": "local", "environment": "lab"}
    back = run_job("release", "release", clone, context)
    assert back.code == 2, back.output[-3000:]  # there is no champion before the first
    assert "error: " in back.output
