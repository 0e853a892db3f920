"""Retries of the client when a server restarts or a response is lost."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.client.conftest import asking
from tests.helpers.bundles import encode, make_bundle, picture
from tests.helpers.programs import free_port, until
from tests.helpers.relay import relaying
from tests.serving.test_feedback import kept
from tests.serving.test_main import server
from visionops.client import Answer, Retry, ServerUnavailable

RED = encode(picture([("red", 2, 1)]))
BOX = (64.0, 32.0, 96.0, 64.0)
ADMIN = "admin-key-of-the-tests"
PATIENT = Retry(seconds=300, longest_wait=0.5)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_server_that_restarts_is_waited_for(how: signal.Signals, kind: str, tmp_path: Path):
    flags = ("--bundle", str(make_bundle(tmp_path / "bundle").folder), "--streams", "1")
    port = free_port()
    answers: list[Answer] = []
    ended = threading.Event()

    def predict_on() -> None:
        with asking(kind, f"http://127.0.0.1:{port}", retry=PATIENT) as ask:
            while not ended.is_set():
                answers.append(ask("predict", RED))

    client = threading.Thread(target=predict_on)
    with ExitStack() as stack:
        stack.callback(client.join, 360)
        stack.callback(ended.set)
        # The last --port counts.
        with server(*flags, "--version", "1", "--port", str(port)) as (process, _, _):
            client.start()
            until(lambda: len(answers) >= 5)
            process.send_signal(how)
            process.wait(60)
        stack.enter_context(server(*flags, "--version", "2", "--port", str(port)))
        until(lambda: answers[-1].model.version == "2" or not client.is_alive())
        ended.set()
        client.join(360)
    assert {answer.model.version for answer in answers} == {"1", "2"}
    assert all(answer.detections[0].box == BOX for answer in answers)


def test_what_is_sent_again_after_a_lost_answer(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONOPS_ADMIN_KEY", ADMIN)
    bundle = str(make_bundle(tmp_path / "bundle").folder)
    log = ("--prediction-log", str(tmp_path / "log"), "--prediction-log-images", "1")
    with (
        server("--bundle", bundle, "--streams", "1", *log) as (_, port, _),
        relaying(port) as relay,
        asking(kind, relay.url, ADMIN, retry=PATIENT) as ask,
    ):
        relay.lose = 1
        answer = ask("predict", RED)
        assert answer.detections[0].box == BOX
        # The server has stored the feedback before its answer is lost, so it recognizes the repeated key.
        relay.lose = 1
        assert ask("feedback", answer, comment="a dent")["known"] is True
        assert [row["comment"] for row in kept(tmp_path / "log")] == ["a dent"]
        # Requests that change models are sent only once.
        placement = {"name": "second", "version": "1", "bundle": bundle}
        relay.lose = 1
        with pytest.raises(ServerUnavailable, match=r"/reload: no answer .* unknown: see Client.models"):
            ask("reload", placement)
        assert [status["name"] for status in ask("models")] == ["model", "second"]
        assert relay.lose == 0


def test_what_changes_models_is_sent_once_the_server_listens(kind: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VISIONOPS_ADMIN_KEY", ADMIN)
    bundle = str(make_bundle(tmp_path / "bundle").folder)
    port = free_port()
    done: list[str] = []

    def reload() -> None:
        with asking(kind, f"http://127.0.0.1:{port}", ADMIN, retry=PATIENT) as ask:
            done.append(ask("reload", {"name": "cells", "version": "4", "bundle": bundle})["version"])

    client = threading.Thread(target=reload)
    client.start()  # no server is listening yet
    with server("--port", str(port)):
        client.join(300)
    assert done == ["4"]
