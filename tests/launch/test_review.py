"""`visionops review` at a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from tests.helpers.pictures import copies, encode, picture
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
        (["similar", "nothing", "CONFIG"], "use case nothing: is not in review"),
        (["export", "nothing", "out"], "use case nothing: is not in review"),
        (["export", "nothing", "out", "--format", "voc"], "unknown format 'voc'; expected one of coco, yolo, csv"),
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
    assert all(
        name in told for name in ("import", "export", "index", "similar", "list", "show", "stats", "sweep", "migrate")
    )
    assert max(map(len, told.splitlines())) <= 80


def test_similar_images_are_listed_and_what_resembles_the_test_split_is_left_out(config: Path, tmp_path: Path):
    for name, numbers in (("ok", range(10)), ("defective", range(10, 20))):
        for path in (tmp_path / "data" / name).iterdir():
            path.unlink()
        for number in numbers:
            (tmp_path / "data" / name / f"{number}.png").write_bytes(encode(picture(number)))
    assert "images    20 of the data set (14 train, 4 val, 2 test), 20 new" in run(
        "index", "--config", config, "--no-history"
    )
    assert ", 0 new or in another split" in run("index", "--config", config, "--no-history")
    lines = run("similar", "parts", tmp_path / "data" / "ok" / "3.png", "--limit", 3).splitlines()
    assert len(lines) == 4
    assert re.match(r"0\.0000 +yes +- +(train|val|test) +ok/3.png", lines[1])
    new = tmp_path / "new"
    new.mkdir()
    for number in range(20):
        folder = new / ("ok" if number < 10 else "defective")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(copies(picture(number))["re-encoded"])
    run("import", "--config", config, new, "--labels", "folders", "--decided")
    assert "held out   2 with a label that resemble images of the test split" in run("stats")
    assert run("list", "--limit", 100).count("(like test)") == 2
    with open_review() as review:
        held = [i for i in review.store.items(Wanted("parts")) if i.likeness and i.likeness.is_held_out]
    shown = run("show", held[0].id)
    assert re.search(r"similar   distance 0\.00\d\d \(near\) to .*; seen in test; kept out of training", shown)
    told = run("export", "parts", tmp_path / "out", "--format", "csv")
    assert "left out  2 that resemble images of the test split" in told
    assert "version   1: 18 images" in told
    told = run("export", "parts", tmp_path / "more", "--format", "csv", code=2)
    assert "nothing decided is left to export (2 resemble images of the test split)" in told
