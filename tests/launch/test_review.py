"""Test `visionops review` at a terminal."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from launch.cli import app
from tests.helpers import pictures
from tests.helpers.bundles import encode, filled, make_label_bundle
from tests.helpers.review import png
from tests.helpers.zenml_homes import empty_database, own_zenml
from visionops.inference.bundle import Head
from visionops.monitoring.feedback import FeedbackLog
from visionops.monitoring.log import PredictionLog
from visionops.review.ports import ItemFilter
from visionops.review.service import Answer
from visionops.review.states import Actor, Verdict
from visionops.review_store.opening import open_review

COLUMNS = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a use case with two classes and its own review."""
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


@pytest.fixture
def zenml_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set up an empty ZenML, as the worker's own keeps the active stack of an earlier test."""
    with own_zenml(tmp_path_factory.mktemp("zenml"), empty_database(tmp_path_factory)):
        yield


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
        printed = run("import", "--config", config, new, "--as", "anna")
        assert "images    3 new, 0 known, 1 refused" in printed
        assert "refused   broken.png: " in printed
    listed = run("list", "parts").splitlines()
    assert len(listed) == 4
    assert max(map(len, listed)) <= 80
    assert "more: add --after" in run("list", "--limit", "2")
    with open_review() as review:
        (item, *_) = review.store.items(ItemFilter("parts"))
        now = item.added
        review.claim(item.id, Actor("bea"), key="c", now=now)
        review.decide(item.id, Answer(Verdict.CORRECT, {"class_name": "ok"}), Actor("bea"), key="d", now=now)
    assert run("list", "--state", "decided").count(item.id) == 1
    assert "round 1   correct: {'class_name': 'ok'}" in run("show", item.id)
    stats = run("stats", "parts")
    assert "2 pending, 0 claimed, 1 decided, 0 exported" in stats
    assert "bea: 1" in stats
    assert "unused     1 with a label" in stats
    printed = run("export", "parts", tmp_path / "out", "--format", "csv")
    assert "version   1: 1 images" in printed
    assert re.search(r"images/[0-9a-f]{64}\.png,ok", (tmp_path / "out" / "labels.csv").read_text())
    run("export", "parts", tmp_path / "again", "--format", "csv", "--version", 1)
    assert (tmp_path / "again" / "labels.csv").read_text() == (tmp_path / "out" / "labels.csv").read_text()
    assert "removed   0 images" in run("sweep", "--dry-run")
    assert "already the newest" in run("migrate")


@pytest.mark.usefixtures("zenml_home")
def test_an_image_has_one_history_by_its_hash_or_its_item(config: Path, tmp_path: Path):
    run("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", "anna")
    run("export", "parts", tmp_path / "out", "--format", "csv", "--as", "bea")
    with open_review() as review:
        (item, *_) = review.store.items(ItemFilter("parts"))
    printed = run("history", item.id)
    assert f"item      {item.id} of parts, exported" in printed
    assert re.search(r"import (ok|defective)/\d\.png by anna", printed)
    assert re.search(r"round 1: correct by anna: \{'class_name': '\w+'\}; in data version 1", printed)
    assert "models    unknown: stack 'default': missing model registry" in printed
    assert run("history", item.image.sha256) == printed


def test_what_is_exported_for_dvc_lies_in_its_repository_and_no_version_is_made_else(config: Path, tmp_path: Path):
    run("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", "anna")
    out = tmp_path / "out"
    printed = run("export", "parts", out, "--format", "csv", "--dvc", code=2)
    assert "not in a DVC repository" in printed
    (tmp_path / ".dvc").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        patch.setattr(sys, "executable", "/nowhere/python")
        printed = run("export", "parts", out, "--format", "csv", "--dvc", code=2)
    assert "--dvc: DVC is not installed" in printed
    assert not out.exists()
    with open_review() as review:
        assert review.store.versions("parts") == []


def test_labels_of_a_folder_can_be_decisions(config: Path, tmp_path: Path):
    printed = run("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", "anna")
    assert "decided   6" in printed
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
    printed = run(*words)
    assert f"model     colours version {bundle.digest[:12]}" in printed
    assert "items     3 moved, 0 unchanged, 0 claimed meanwhile" in printed
    assert "random    0 of the pending items" in printed
    with open_review() as review:
        item = review.claim_next("parts", Actor("bea"), key="c", now=datetime.now(UTC))
    assert item is not None
    assert item.first.name == "1.png"
    shown = run("show", item.id)
    assert re.search(r"priority  \+0\.\d{3} uncertainty probability of (ok|defective) 0\.\d\d, of", shown)
    assert "prioritize by anna  priority 0." in shown
    assert "model colours" in shown
    assert "2 moved, 0 unchanged" in run(*words)  # ranks among the remaining items
    assert "0 moved, 2 unchanged" in run(*words)
    assert "--shadow: unused, because review.selection.disagreement is 0" in run(*words, "--shadow", "3", code=2)
    config.write_text(config.read_text().replace("disagreement: 0", "disagreement: 1"))
    assert "--shadow: only works with the champion" in run(*words, "--shadow", "3", code=2)


def test_decisions_of_a_folder_that_need_a_second_opinion_wait(config: Path, tmp_path: Path):
    config.write_text(config.read_text() + "review: {second_opinion: {share: 1}}\n")
    for name, decided in (("anna", 0), ("anna", 0), ("bea", 6)):
        words = ("import", "--config", config, tmp_path / "data", "--labels", "folders", "--decided", "--as", name)
        assert f"decided   {decided}" in run(*words)
    assert "6 decided" in run("stats")


def test_two_reviewers_answer_and_their_agreement_is_shown(config: Path, tmp_path: Path):
    config.write_text(config.read_text() + "review: {second_opinion: {share: 1}}\n")
    assert "no image has two opinions yet" not in run("import", "--config", config, tmp_path / "data")
    assert "parts: no image has two opinions yet; see review.second_opinion" in run("agreement", "parts")
    with open_review() as review:
        items = review.store.items(ItemFilter("parts"))
        now = items[0].added
        for item in items[:3]:
            for name in ("anna", "bea")[: 1 if item is items[2] else 2]:
                label = {"class_name": "ok" if item is items[0] or name == "anna" else "defective"}
                review.claim(item.id, Actor(name), key=f"c{item.id}", now=now)
                review.decide(item.id, Answer(Verdict.CORRECT, label), Actor(name), key=f"d{item.id}", now=now)
    assert "waiting    1 for a second opinion, 1 for a third" in run("stats", "parts")
    shown = run("show", items[2].id)
    assert "opinion by anna" in shown
    assert "ok" not in shown.split("opinion by anna")[1]
    assert "opinion   round 1 by anna: correct: {'class_name': 'ok'}" in run("show", items[2].id, "--opinions")
    assert run("show", items[1].id).count("opinion   round 1: correct") == 2
    printed = run("agreement", "parts")
    assert "parts: 2 images with two blind opinions" in printed
    assert re.search(r"anna, bea +2  0\.50 \(too few\)", printed)
    assert max(map(len, printed.splitlines())) <= 80


def test_labels_that_a_model_contradicts_are_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", str(tmp_path / "review.db"))
    monkeypatch.setenv("VISIONOPS_REVIEW_IMAGES", str(tmp_path / "images"))
    for place, name in enumerate(("red", "green", "blue")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            colour = [number, number, number]
            colour[(place + (number == 5 and name == "red")) % 3] = 250
            picture = np.full((32, 32, 3), colour, dtype=np.uint8)
            (tmp_path / "data" / name / f"{number}.png").write_bytes(encode(picture))
    (tmp_path / "data" / "red" / "broken.png").write_bytes(b"no image")
    config = tmp_path / "colours.yaml"
    config.write_text(
        "name: colours\ntask: classification\n"
        f"data: {{source: {{kind: folder, path: {tmp_path / 'data'}}}, format: folders}}\n"
        "review: {second_opinion: {share: 0.001}}\n"
    )
    bundle = make_label_bundle(tmp_path / "bundle", heads=[Head(name="class", class_names=("red", "green", "blue"))])
    for new, known in ((1, 0), (1, 0)):  # the same write twice gives the same counts
        printed = run("audit", "--config", config, "--model", bundle.folder, "--as", "anna")
        assert "refused   red/broken.png: " in printed
        assert re.search(r"labels    24 checked by colours [0-9a-f]{12}, 1 probably wrong", printed)
        assert f"queued    {new} new, {known} already in review" in printed
    with open_review() as review:
        (item,) = review.store.items(ItemFilter("colours"))
        assert len(review.store.arrivals(item.id)) == 1
        (reason,) = item.first.reasons
        assert (item.first.origin.value, item.first.name, item.first.proposed) == (
            "import", "red/5.png", {"class_name": "red"},
        )  # fmt: skip
        assert (reason.kind, item.first.predicted.answer["classification"]["class_name"]) == ("label_error", "green")
        assert reason.value > 0.5
        review.claim(item.id, Actor("bea"), key="c", now=item.added)
        waits = review.decide(item.id, Answer(Verdict.CONFIRM), Actor("bea"), key="d", now=item.added)
        assert waits.status.state.value == "pending"
        review.claim(item.id, Actor("chen"), key="c", now=item.added)
        review.decide(item.id, Answer(Verdict.CONFIRM), Actor("chen"), key="d", now=item.added)
    printed = run("audit", "--config", config, "--model", bundle.folder, "--as", "dora")
    assert "queued    0 new, 0 already in review" in printed
    assert "left      1 already decided by reviewers" in printed
    printed = run("audit", "--config", config, "--model", tmp_path / "data", code=2)
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stats", "nothing"], "use case nothing: is not in review"),
        (["list", "nothing"], "use case nothing: is not in review"),
        (["list", "--state", "lost"], "unknown state 'lost'; expected one of pending, claimed"),
        (["list", "--limit", "0"], "limit: 0 is not from 1 to 1000"),
        (["show", "nothing"], "item nothing: does not exist"),
        (["similar", "nothing", "CONFIG"], "use case nothing: is not in review"),
        (["agreement", "nothing"], "use case nothing: is not in review"),
        (["export", "nothing", "out"], "use case nothing: is not in review"),
        (["export", "nothing", "out", "--format", "voc"], "unknown format 'voc'; expected one of coco, yolo, csv"),
        (["history", "nothing"], "item nothing: does not exist"),
        (["history", "f" * 64], f"image {'f' * 64}: is not in any review"),
        (["export", "nothing", "out", "--push"], "--push: needs --dvc"),
        (["import", "--config", "CONFIG", "nowhere"], "nowhere: no such folder"),
        (["import", "--config", "CONFIG", "nowhere", "--decided"], "--decided: needs labels"),
    ],
)
def test_a_mistake_is_one_line(config: Path, words: list[str], said: str):
    printed = run(*(str(config) if word == "CONFIG" else word for word in words), code=2)
    assert said in printed
    assert printed.count("\n") == 1


def test_a_database_that_is_down_is_one_line(config: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_REVIEW_DATABASE", "postgresql://tester@127.0.0.1:1/postgres")
    assert "cannot be read" in run("stats", code=2)


def test_help_fits_and_names_every_command():
    printed = run("--help")
    names = ("import", "index", "similar", "list", "show", "history", "stats", "prioritize", "export", "migrate")
    assert all(name in printed for name in (*names, "agreement", "audit", "sweep"))
    assert max(map(len, printed.splitlines())) <= 80


def logged(folder: Path) -> None:
    """Write a prediction log of the use case, with two predictions, their images, and feedback on one of them."""
    from tests.monitoring.test_log import record

    answer = {"class_id": 0, "class_name": "ok", "confidence": 0.75, "probabilities": {"ok": 0.75, "defective": 0.25}}
    answer_json = json.dumps({"classification": answer})
    log, when = PredictionLog(folder), datetime.now(UTC) - timedelta(hours=1)
    for number in range(2):
        name = f"images/2026-11-29/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
        more = {"model": "parts", "version": "3", "time": when, "image": name, "answer_json": answer_json}
        assert log.append(record(f"r-{number}", **more))
    assert log.append(record("r-2", model="parts", time=when))
    log.close()
    said = FeedbackLog(folder)
    digest = hashlib.sha256(png(1)).hexdigest()
    line = {"time": when, "id": "a" * 64, "content": "b", "client": "line-3", "request_id": "r-1", "model": "parts"}
    line |= {"version": "3", "sha256": digest, "answer_json": answer_json, "comment": "bent", "name": ""}
    assert said.append(line | {"label_json": '{"class_name":"defective"}'}, png(1))
    said.close()


def test_intake_takes_traffic_and_feedback_in_once(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    logged(tmp_path / "log")
    words = ("intake", "--config", config, "--log", tmp_path / "log")
    assert run(*words) == "traffic   2 new, 0 known\nfeedback  1\nleft out  1 not sampled\n"
    assert run(*words) == "traffic   0 new, 0 known\nfeedback  0\n"
    with open_review() as review:
        (item,) = review.store.items(ItemFilter("parts", sha256=hashlib.sha256(png(1)).hexdigest()))
        first, second = review.store.arrivals(item.id)
    assert (first.predicted, first.reference) == (second.predicted, "r-1")
    assert (second.proposed, second.comment) == ({"class_name": "defective"}, "bent")

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("launch.review_intake.time.sleep", interrupted)
    assert run(*words, "--follow", 5) == "traffic   0 new, 0 known\nfeedback  0\n"


def test_intake_names_a_missing_log(config: Path, tmp_path: Path):
    message = run("intake", "--config", config, "--log", tmp_path / "nowhere", code=2)
    assert "no such folder; give the server's --prediction-log" in message
    assert "s3://user:pass@bucket" not in run("intake", "--config", config, "--log", "s3://user:pass@b/c", code=2)


def test_similar_images_are_listed_and_what_resembles_the_test_split_is_left_out(config: Path, tmp_path: Path):
    for name, numbers in (("ok", range(10)), ("defective", range(10, 20))):
        for path in (tmp_path / "data" / name).iterdir():
            path.unlink()
        for number in numbers:
            (tmp_path / "data" / name / f"{number}.png").write_bytes(pictures.encode(pictures.picture(number)))
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
        (folder / f"{number}.jpg").write_bytes(pictures.copies(pictures.picture(number))["re-encoded"])
    run("import", "--config", config, new, "--labels", "folders", "--decided")
    assert "held out   2 with a label that resemble images of the test split" in run("stats")
    assert run("list", "--limit", 100).count("(like test)") == 2
    with open_review() as review:
        held = [i for i in review.store.items(ItemFilter("parts")) if i.is_held_out]
    shown = run("show", held[0].id)
    assert re.search(r"similar   distance 0\.00\d\d \(near\) to .*; seen in test; kept out of training", shown)
    printed = run("export", "parts", tmp_path / "out", "--format", "csv")
    assert "left out  2 that resemble images of the test split" in printed
    assert "version   1: 18 images" in printed
    printed = run("export", "parts", tmp_path / "more", "--format", "csv", code=2)
    assert "no new decisions to export (2 resemble images of the test split)" in printed
