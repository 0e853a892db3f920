"""Steps of the workflows, run in a clean clone; those that take more than a moment by `make workflows`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT
from tests.helpers.exports import Made, export_yolo
from tests.integration.conftest import Machine, write_tiny
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
    for name in (".venv", ".uv", ".dvc-tool"):
        if (ROOT / name).exists():
            (folder / name).symlink_to((ROOT / name).resolve())
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(folder / name, (0, 0))  # installed already
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the clone's code run, with a home of its own: a release writes a kubeconfig there. Ends its endpoints."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": home,
        "PYTHONPATH": clone,
        "VISIONOPS_HOME": home,
        "ZENML_CONFIG_PATH": home / "zenml",
    }.items():
        monkeypatch.setenv(name, str(value))
    yield home
    for pid in Machine(tmp_path).server_pids():
        process = psutil.Process(pid)
        process.terminate()
        process.wait(timeout=60)


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


def data(clone: Path, **inputs: str) -> Ran:
    return run_job("data", "integrity", clone, {"github": MAIN | {"event_name": "workflow_dispatch"}, "inputs": inputs})


def export(folder: Path) -> None:
    """Four labelled images."""
    images = [Made(f"{number}.png", 40, 30, [("scratch", (2.0, 2.0, 10.0, 9.0))], "train") for number in range(4)]
    export_yolo(folder, images, ("scratch",))


def test_data_of_nowhere_are_an_error(tmp_path: Path, programs: Path):
    (tmp_path / "folder").mkdir()
    (programs / "make").write_text("#!/bin/sh\n")
    (programs / "make").chmod(0o755)
    context = {"github": MAIN | {"event_name": "workflow_dispatch"}, "inputs": {"config": ""}}
    ran = run_job("data", "integrity", tmp_path / "folder", context, programs)
    assert (ran.code, ran.output) == (2, "error: set url and sha256, or tracked\n")


@needs_time
@pytest.mark.timeout(1800)
def test_data_is_fetched_compared_and_looked_at(clone: Path, tmp_path: Path, elsewhere: Path):
    export(tmp_path / "export")
    archive = Path(shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "export"))
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    ran = data(clone, url=archive.as_uri(), sha256=right)
    assert ran.code == 0, ran.output
    assert (clone / "inspection").is_dir()
    assert ran.names[-1] == "Describe the data"
    wrong = data(clone, url=archive.as_uri(), sha256="0" * 64)
    assert wrong.names[-1] == "Compare the archive's checksum"
    assert wrong.code != 0


@needs_time
@pytest.mark.timeout(1800)
def test_what_dvc_tracks_is_pulled_and_each_file_compared(clone: Path, tmp_path: Path, elsewhere: Path):
    def dvc(*arguments: str) -> None:
        subprocess.run([".dvc-tool/bin/dvc", *arguments], cwd=clone, check=True, capture_output=True)

    remote = tmp_path / "remote"
    export(clone / "data" / "parts")
    dvc("add", "data/parts")
    dvc("remote", "add", "--default", "there", str(remote))
    dvc("push")
    for gone in (clone / "data" / "parts", clone / ".dvc" / "cache", clone / ".dvc" / "tmp"):
        shutil.rmtree(gone)
    config = write_tiny(clone / "configs" / "parts.yaml", "parts", "data.split={val: 0.25, test: 0.25}")
    ran = data(clone, tracked="data/parts", config=str(config.relative_to(clone)))
    assert ran.code == 2, ran.output[-3000:]
    assert "error: parts: 4 usable images, at least 10 are needed; add images" in ran.output
    assert ran.names[-1] == "Validate the data for training"
    assert (clone / "inspection").is_dir()
    image = next((clone / "data" / "parts").rglob("*.png"))
    stored = next(file for file in remote.rglob("*") if file.is_file() and file.read_bytes() == image.read_bytes())
    stored.chmod(0o644)
    stored.write_bytes(b"not what it was")
    shutil.rmtree(clone / "data" / "parts")
    shutil.rmtree(clone / ".dvc" / "cache")
    damaged = data(clone, tracked="data/parts")
    assert (damaged.code, damaged.names[-1]) == (1, "Compare each file with DVC's checksum"), damaged.output[-3000:]
    assert f"{image.name}: FAILED" in damaged.output


@needs_time
@pytest.mark.timeout(3600)
def test_a_training_a_promotion_and_a_rollback(clone: Path, elsewhere: Path):
    config = write_tiny(clone / "configs" / "lab.yaml", "lab", "gate.margin=0", "gate.confidence=0")
    inputs = {"config": str(config.relative_to(clone)), "epochs": "1", "batch": "16", "rate": "0.002"}

    def run(workflow: str, **more: str) -> Ran:
        (clone / "summary.json").unlink(missing_ok=True)
        context = {"github": MAIN | {"event_name": "workflow_dispatch"}, "inputs": inputs | more}
        return run_job(workflow, workflow, clone, context)

    def release(action: str, **more: str) -> Ran:
        return run("release", action=action, stack="local", environment="lab", **more)

    def served() -> str:
        return str(json.loads((clone / "summary.json").read_text())["endpoint"]["version"])

    ran = run("train")
    assert ran.code == 0, ran.output[-3000:]
    assert served() == "1"
    back = release("rollback")
    assert back.code == 2, back.output[-3000:]  # there is no champion before the first
    assert "error: " in back.output
    again = release("promotion", version="1", reason="a drill")
    assert (again.code, served()) == (0, "1"), again.output[-3000:]
    ran = release("promotion", epochs="2")
    assert ran.code == 0, ran.output[-3000:]
    assert served() == "2"
    back = release("rollback")
    assert (back.code, served()) == (0, "1"), back.output[-3000:]
    refused = release("promotion", version="2", reason="a drill")
    assert refused.code == 2, refused.output[-3000:]
    assert "error: lab: version 2 was rolled back by hand; train a better one" in refused.output
    assert (elsewhere / ".kube" / "config").exists()
