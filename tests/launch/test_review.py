"""`visionops review` at a terminal."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from tests.helpers.review import png
from visionops.review.ports import Wanted
from visionops.review.service import Answer
from visionops.review.states import Actor, Verdict
from visionops.review_store.opening import open_review

COLUMNS = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A use case of two classes, with a review of its own."""
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "review.db"))
    monkeypatch.setenv("VISIONOPS_REVIEW_IMAGES", str(tmp_path / "images"))
    for number, name in enumerate(("ok", "defective")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for n in range(3):
            (tmp_path / "data" / name / f"{n}.png").write_bytes(png(100 * number + n + 1000))
    path = tmp_path / "parts.yaml"
    path.write_text(
        f"name: parts\ntask: classification\n"
        f"data: {{source: {{kind: folder, path: {tmp_path / 'data'}}}, format: folders}}\n"
    )
    return path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["review", *map(str, words)], env=COLUMNS)
    assert done.exit_code == code, done.output
    return done.output


def test_a_folder_goes_in_and_a_data_version_comes_out(config: Path, tmp_path: Path):
    assert "no use case is in review yet" in run("stats")
    new = tmp_path / "new"
    new.mkdir()
    for number in range(3):
        (new / f"a very long name of a part, number {number}.png").write_bytes(png(number))
    (new / "broken.png").write_bytes(b"no image")
    for _ in range(2):
        told = run("import", "--config", config, new, "--as", "anna")
        assert "images    3 new, 0 known, 1 refused" in told
        assert "refused   broken.png: " in told
    listed = run("list", "parts").splitlines()
    assert len(listed) == 4
    assert max(map(len, listed)) <= 80
    assert "more: add --after" in run("list", "--limit", "2")
    with open_review() as review:
        (item, *_) = review.store.items(Wanted("parts"))
        now = item.added
        review.claim(item.id, Actor("bea"), key="c", now=now)
        review.decide(item.id, Answer(Verdict.CORRECT, {"class_name": "ok"}), Actor("bea"), key="d", now=now)
    assert run("list", "--state", "decided").count(item.id) == 1
    assert "round 1   correct: {'class_name': 'ok'}" in run("show", item.id)
    stats = run("stats", "parts")
    assert "2 pending, 0 claimed, 1 decided, 0 exported" in stats
    assert "bea: 1" in stats
    assert "unused     1 with a label" in stats
    told = run("export", "parts", tmp_path / "out", "--format", "csv")
    assert "version   1: 1 images" in told
    assert re.search(r"images/[0-9a-f]{64}\.png,ok", (tmp_path / "out" / "labels.csv").read_text())
    run("export", "parts", tmp_path / "again", "--format", "csv", "--version", 1)
    assert (tmp_path / "again" / "labels.csv").read_text() == (tmp_path / "out" / "labels.csv").read_text()
    assert "removed   0 images" in run("sweep", "--dry-run")
    assert "is the newest already" in run("migrate")


def test_an_image_has_one_history_by_its_hash_or_its_item(config: Path, tmp_path: Path):
    run("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", "anna")
    run("export", "parts", tmp_path / "out", "--format", "csv", "--as", "bea")
    with open_review() as review:
        (item, *_) = review.store.items(Wanted("parts"))
    told = run("history", item.id)
    assert f"item      {item.id} of parts, exported" in told
    assert re.search(r"import (ok|defective)/\d\.png by anna", told)
    assert re.search(r"round 1: correct by anna: \{'class_name': '\w+'\}; in data version 1", told)
    assert "models    unknown: stack 'default': has no model registry" in told
    assert run("history", item.image.sha256) == told


def test_what_is_exported_for_dvc_lies_in_its_repository_and_no_version_is_made_else(config: Path, tmp_path: Path):
    run("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", "anna")
    out = tmp_path / "out"
    told = run("export", "parts", out, "--format", "csv", "--dvc", code=2)
    assert "is in no DVC repository" in told
    (tmp_path / ".dvc").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        patch.setattr(sys, "executable", "/nowhere/python")
        told = run("export", "parts", out, "--format", "csv", "--dvc", code=2)
    assert "--dvc: DVC is not installed" in told
    assert not out.exists()
    with open_review() as review:
        assert review.store.versions("parts") == []


def test_labels_of_a_folder_can_be_decisions(config: Path, tmp_path: Path):
    told = run("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", "anna")
    assert "decided   6" in told
    assert "6 correct" in run("stats")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stats", "nothing"], "use case nothing: is not in review"),
        (["list", "nothing"], "use case nothing: is not in review"),
        (["list", "--state", "lost"], "unknown state 'lost'; expected one of pending, claimed"),
        (["list", "--limit", "0"], "limit: 0 is not from 1 to 1000"),
        (["show", "nothing"], "item nothing: is not there"),
        (["export", "nothing", "out"], "use case nothing: is not in review"),
        (["export", "nothing", "out", "--format", "voc"], "unknown format 'voc'; expected one of coco, yolo, csv"),
        (["history", "nothing"], "item nothing: is not there"),
        (["history", "f" * 64], f"image {'f' * 64}: is in no review"),
        (["export", "nothing", "out", "--push"], "--push: needs --dvc"),
        (["import", "--config", "CONFIG", "nowhere"], "nowhere: no such folder"),
        (["import", "--config", "CONFIG", "nowhere", "--decided"], "--decided: needs labels"),
    ],
)
def test_a_mistake_is_one_line(config: Path, words: list[str], said: str):
    told = run(*(str(config) if word == "CONFIG" else word for word in words), code=2)
    assert said in told
    assert told.count("\n") == 1


def test_a_database_that_is_down_is_one_line(config: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", "postgresql://tester@127.0.0.1:1/postgres")
    assert "cannot be read" in run("stats", code=2)


def test_help_fits_and_names_every_command():
    told = run("--help")
    assert all(name in told for name in ("import", "export", "list", "show", "history", "stats", "sweep", "migrate"))
    assert max(map(len, told.splitlines())) <= 80
