"""A comment of 100 MB, sent by a raw socket, is refused while it arrives, and never held in memory."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.helpers.bundles import make_bundle
from tests.helpers.programs import free_port, get, until
from tests.serving.conftest import KEY
from tests.serving.test_switching import server

SIZE = 100_000_000
PIECE = b"x" * 65536
MOST_GROWTH = 32_000_000
"""Allowed growth of a process in bytes: a few bodies of the largest allowed size."""
JSON = b'{"request_id": "a", "use_case": "steel", "reason": "r", "comment": "'
FORM = b'--x\r\nContent-Disposition: form-data; name="comment"\r\n\r\n'
KINDS = {"application/json": JSON, "multipart/form-data; boundary=x": FORM}


pytestmark = pytest.mark.skipif(not os.environ.get("VISIONOPS_LARGE_BODIES"), reason="make large-bodies runs it")


@contextlib.contextmanager
def control(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    (folder / "configs").mkdir()
    port = free_port()
    command = [sys.executable, "-m", "deploy.control", "--port", str(port), "--configs", str(folder / "configs")]
    own = {"VISIONOPS_HOME": str(folder / "home"), "VISIONOPS_ADMIN_KEY": KEY, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--log-file", str(folder / "log")], cwd=ROOT, env=os.environ | own, stderr=subprocess.PIPE
    )
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def peak(process: subprocess.Popen[bytes]) -> int:
    """Return the peak memory of a process in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1])


def send_all(port: int, path: str, kind: str, *, chunked: bool) -> tuple[int, int]:
    """Send a body of 100 MB until the server refuses it.

    Returns:
        Status of the response, and the bytes that were sent before it arrived.
    """
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
    answer, sent, before = b"", 0, None
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode())
        piece = KINDS[kind]
        with contextlib.suppress(ConnectionError):
            while sent < SIZE:
                connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                sent += len(piece)
                piece = PIECE[: SIZE - sent]
                if select.select([connection], [], [], 0)[0]:
                    received = connection.recv(65536)
                    answer += received
                    before = sent if before is None else before
                    if not received:
                        break
        with contextlib.suppress(ConnectionError):
            while b"\r\n" not in answer and (received := connection.recv(65536)):
                answer += received
    return int(answer.split(b" ", 2)[1]), sent if before is None else before


@pytest.mark.parametrize("which", ["server", "control"])
def test_a_comment_of_a_hundred_megabytes_is_refused_early(tmp_path: Path, which: str):
    if which == "server":
        bundle = make_bundle(tmp_path / "bundle").folder
        log = ("--prediction-log", str(tmp_path / "predictions"))
        running = server(tmp_path / "log", "--bundle", str(bundle), "--name", "cells", "--version", "1", *log)
        paths = dict.fromkeys(KINDS, "/feedback")
    else:
        running = control(tmp_path)
        paths = dict(zip(KINDS, ("/retrain", "/review/items?use_case=steel"), strict=True))
    with running as (process, port):
        until(lambda: get(port, "/health" if which == "server" else "/live")[0] == 200)
        before = peak(process)
        for chunked in (False, True):
            for kind, path in paths.items():
                status, sent = send_all(port, path, kind, chunked=chunked)
                # The form of the control service has no such text, which it says as soon as it sees the field.
                assert status in ({413} if which == "server" else {413, 422}), (kind, chunked)
                assert sent < SIZE, (kind, chunked)
        assert peak(process) - before < MOST_GROWTH
        assert process.poll() is None
