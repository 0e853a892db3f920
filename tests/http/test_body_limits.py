"""Limits on the time and the memory of request bodies."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.http.test_connections import PATIENCE, connect, is_closed, read_answer, wait_for
from tests.serving.test_main import server

HEAD = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n"
FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="secret-part.png"\r\n\r\n'


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    """Port of a server with a short timeout."""
    with server("--bundle", str(bundle), "--streams", "2", "--upload-timeout", "1") as (_, port, _log):
        yield port


@pytest.fixture(scope="module")
def small_port(bundle: Path) -> Iterator[int]:
    """Port of a server with little memory for bodies."""
    with server("--bundle", str(bundle), "--streams", "2", "--max-body-memory", "1000000") as (_, port, _log):
        yield port


def head(path: str = "/predict", kind: str = "image/png", length: int = 900_000) -> bytes:
    return HEAD.format(path, kind, length).encode()


@pytest.mark.parametrize(
    ("path", "kind", "begin"),
    [
        ("/predict", "image/png", b""),
        ("/predict", FORM, PART),
        ("/predict/batch", FORM, PART),
        ("/explain", "image/png", b"\x89PNG"),
        ("/v2/models/model/infer", "application/json", b"{"),
    ],
    ids=["nothing", "form", "batch", "explain", "infer"],
)
def test_a_slow_body_gets_408_and_the_connection_is_closed(port: int, path: str, kind: str, begin: bytes):
    with connect(port) as connection:
        connection.sendall(head(path, kind) + begin)
        start = time.monotonic()
        # A slow but steady body is refused too.
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b" ")
            assert time.monotonic() - start < PATIENCE
        status, headers, body = read_answer(connection)
        assert status == 408
        assert headers["connection"] == "close"
        message = body["error"] if path.startswith("/v2") else body["error"]["message"]
        assert "did not arrive within 1 s" in message
        assert path.startswith("/v2") or body["error"]["code"] == "upload_too_slow"
        assert is_closed(connection)


def test_bodies_of_others_fill_the_memory_until_they_are_done(small_port: int, red_cell: bytes):
    # A body that still fits is served.
    with held(small_port), connect(small_port) as small:
        small.sendall(head(length=len(red_cell)) + red_cell)
        assert read_answer(small)[0] == 200
    wait_for(lambda: _status_of(small_port, 800_000) == 422, "the body of one who left is still counted")
    # One body alone is never refused for its size.
    with connect(small_port) as connection:
        connection.sendall(head(length=3_000_000) + b"0" * 3_000_000)
        status, _, body = read_answer(connection)
        assert (status, body["error"]["code"]) == (422, "not_an_image")


@contextmanager
def held(port: int) -> Iterator[None]:
    """Fill most of the memory with a body that does not end.

    If two bodies do not fit together, the one that is read last is refused. On a busy machine this may be the one that
    was sent first. Then the memory is free, and another one is sent.
    """
    end = time.monotonic() + PATIENCE
    while True:
        with connect(port) as holder:
            holder.sendall(head() + b"0" * 800_000)
            wait_for(lambda: _status_of(port, 800_000) == 503 or _is_answered(holder), "the first body is not counted")
            if not _is_answered(holder):
                yield
                return
            status, _, body = read_answer(holder)
            assert (status, body["error"]["code"]) == (503, "memory_full")
        assert time.monotonic() < end, "the first body is always refused"


def _is_answered(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def _status_of(port: int, size: int) -> int:
    with connect(port) as connection:
        connection.sendall(head(length=size) + b"0" * size)
        status, headers, body = read_answer(connection)
        if status == 503:
            assert body["error"]["code"] == "memory_full"
            assert headers["retry-after"] == "1"
        return status


def test_an_announcement_takes_no_room(small_port: int, red_cell: bytes):
    with connect(small_port) as holder:
        holder.sendall(head(length=15_000_000))
        with connect(small_port) as connection:
            connection.sendall(head(length=len(red_cell)) + red_cell)
            assert read_answer(connection)[0] == 200


def test_who_leaves_in_the_middle_leaves_nothing_behind(small_port: int, red_cell: bytes):
    for _ in range(5):
        with connect(small_port) as connection:
            connection.sendall(head() + b"0" * 800_000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: _status_of(small_port, 900_000) == 422, "bodies of those who left are still counted")
