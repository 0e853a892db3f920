"""A real process under load: no request is lost when models change or the process is stopped."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT
from tests.helpers.bundles import make_bundle
from tests.serving.conftest import KEY

CLIENTS = 8
SWITCHES = 20
PNG = {"Content-Type": "image/png"}
BOXES = {"even": [64.0, 32.0, 96.0, 64.0], "odd": [72.0, 40.0, 88.0, 56.0]}
"""Box of the red cell by model; one model draws boxes of half the size."""


@dataclasses.dataclass
class Load:
    """Answers of clients that send one request after another."""

    answers: list[tuple[str, list[float]]] = dataclasses.field(default_factory=list)
    """Return version and box of an answer."""
    refusals: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    cut_off: list[str] = dataclasses.field(default_factory=list)
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)

    def ask(self, port: int, image: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not self.stop.is_set():
            try:
                connection.request("POST", "/predict", image, PNG)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.cut_off.append(repr(error))
                break
            if response.status == 200:
                answer = json.loads(body)
                self.answers.append((answer["model"]["version"], answer["detections"][0]["box"]))
            else:
                self.refusals.append((response.status, body.decode()))
        connection.close()

    def wait_for(self, more: int) -> None:
        """Wait for this number of additional answers."""
        wanted, tick = len(self.answers) + more, threading.Event()
        while len(self.answers) < wanted:
            assert not self.cut_off
            tick.wait(0.005)


@contextmanager
def server(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a process on a listening socket; yield it and its port. Its log is a file: a full pipe would block."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, "-m", "deploy.serving", "--fd", str(fd), "--log-file", str(log), *arguments]
        environment = os.environ | {"VISIONOPS_ADMIN_KEY": KEY}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[fd], stderr=subprocess.PIPE)
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


@contextmanager
def load_of(port: int, image: bytes, clients: int = CLIENTS) -> Iterator[Load]:
    load = Load()
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(load.ask, port, image) for _ in range(clients)]
        try:
            yield load
        finally:
            load.stop.set()
            for client in running:
                client.result(60)


def reload(port: int, bundle: Path, version: int) -> None:
    order = json.dumps({"bundle": str(bundle), "name": "cells", "version": str(version)})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/reload", order, {"X-API-Key": KEY})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["version"]) == (200, str(version))
    connection.close()


def test_switches_under_load_lose_no_request_and_never_mix_two_models(tmp_path: Path, red_cell: bytes):
    whole, half = make_bundle(tmp_path / "whole").folder, make_bundle(tmp_path / "half", box_scale=0.5).folder
    arguments = ("--bundle", str(whole), "--name", "cells", "--version", "0", "--streams", "2")
    with server(tmp_path / "log", *arguments) as (_, port):
        with load_of(port, red_cell) as load:
            for version in range(1, SWITCHES + 1):
                load.wait_for(CLIENTS + 1)  # one more than may be in flight on the model before
                reload(port, half if version % 2 else whole, version)
            load.wait_for(CLIENTS + 1)
        assert not load.refusals
        assert not load.cut_off
        assert {version for version, _ in load.answers} == {str(version) for version in range(SWITCHES + 1)}
        for version, box in load.answers:
            assert box == BOXES["odd" if int(version) % 2 else "even"]


def test_on_sigterm_what_was_begun_is_answered(tmp_path: Path, bundle: Path, red_cell: bytes):
    log = tmp_path / "log"
    with server(log, "--bundle", str(bundle), "--streams", "2") as (process, port):
        with load_of(port, red_cell) as load:
            load.wait_for(3 * CLIENTS)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
        logged = [json.loads(line) for line in log.read_text().splitlines()]
        assert [line["status"] for line in logged if line["event"] == "request"] == [200] * len(load.answers)
        assert not load.refusals
        assert process.stderr.read() == b""
