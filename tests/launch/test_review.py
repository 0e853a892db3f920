"""`visionops review` at a terminal."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from tests.helpers.bundles import encode, filled, make_label_bundle
from tests.helpers.review import png
from visionops.inference.bundle import Head
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


def test_the_queue_is_put_in_order_by_a_bundle(config: Path, tmp_path: Path):
    bundle = make_label_bundle(tmp_path / "bundle", heads=[Head(name="label", class_names=("ok", "defective"))])
    words = ("prioritize", "--config", config, "--bundle", bundle.folder, "--as", "anna")
    assert "use case parts: is not in review" in run(*words, code=2)
    new = tmp_path / "new"
    new.mkdir()
    for number, colour in enumerate([(255, 0, 0), (200, 190, 0), (0, 250, 0)]):
        (new / f"{number}.png").write_bytes(encode(filled(colour)))
    run("import", "--config", config, new)
    config.write_text(config.read_text() + "review: {random_share: 0, selection: {diversity: 0, disagreement: 0}}\n")
    told = run(*words)
    assert f"model     colours version {bundle.digest[:12]}" in told
    assert "items     3 moved, 0 as before, 0 claimed meanwhile" in told
    assert "random    0 of those that wait" in told
    with open_review() as review:
        item = review.claim_next("parts", Actor("bea"), key="c", now=datetime.now(UTC))
    assert item is not None
    assert item.first.name == "1.png"
    shown = run("show", item.id)
    assert re.search(r"priority  \+0\.\d{3} uncertainty probability of (ok|defective) 0\.\d\d, of", shown)
    assert "prioritize by anna  priority 0." in shown
    assert "model colours" in shown
    assert "2 moved, 0 as before" in run(*words)  # ranks among those that are left
    assert "0 moved, 2 as before" in run(*words)
    assert "--shadow: review.selection.disagreement is 0" in run(*words, "--shadow", "3", code=2)
    config.write_text(config.read_text().replace("disagreement: 0", "disagreement: 1"))
    assert "--shadow: a version of the registry" in run(*words, "--shadow", "3", code=2)


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
    assert all(name in told for name in ("import", "export", "list", "show", "stats", "prioritize", "sweep", "migrate"))
    assert max(map(len, told.splitlines())) <= 80
