"""Limits on connections, over real sockets."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving.test_main import server

PATIENCE = 60
"""Timeout in seconds, never reached if the test passes."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
SECURITY = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


@pytest.fixture(scope="module")
def port(bundle: Path) -> Iterator[int]:
    """Port of a server with few connections and short timeouts."""
    limits = ("--idle-timeout", "1.5", "--upload-timeout", "1.5", "--max-connections", "4")
    with server("--bundle", str(bundle), "--name", "cells", "--streams", "2", *limits) as (_, port, _log):
        yield port


@contextmanager
def connect(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        yield connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return status, headers and JSON body of one response."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        assert chunk, f"closed after {data!r}"
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(status.split()[1]), headers, json.loads(body)


def ask(port: int, request: bytes = HEALTH) -> int:
    """Return the status of one response on a separate connection."""
    with connect(port) as connection:
        connection.sendall(request)
        return read_answer(connection)[0]


def wait_for(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def is_closed(connection: socket.socket) -> bool:
    """Wait for the next data; return whether the connection has ended."""
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def test_connections_over_the_limit_get_503_and_the_others_are_served(port: int):
    with connect(port) as first, connect(port) as second, connect(port) as third, connect(port) as fourth:
        for each in (first, second, third, fourth):
            each.sendall(HEALTH)
            assert read_answer(each)[0] == 200
        with connect(port) as fifth:
            status, headers, body = read_answer(fifth)
            assert (status, body["error"]["code"]) == (503, "too_many_connections")
            assert headers["retry-after"] == "1"
            assert headers["connection"] == "close"
            assert headers.items() >= SECURITY.items()
            assert is_closed(fifth)
        first.sendall(HEALTH)
        assert read_answer(first)[0] == 200
    wait_for(lambda: ask(port) == 200, "no room again")
    metrics = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connect(port) as connection:
        connection.sendall(metrics)
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert 'visionops_rejected_total{reason="too_many_connections"}' in text


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /health HT", HEALTH[:-2], HEALTH],
    ids=["nothing", "part of a line", "part of a head", "one request"],
)
def test_an_idle_connection_is_closed(port: int, sent: bytes):
    with connect(port) as connection:
        connection.sendall(sent)
        if sent == HEALTH:
            assert read_answer(connection)[0] == 200
        assert is_closed(connection)


def test_a_connection_in_use_is_kept(port: int):
    with connect(port) as connection:
        end = time.monotonic() + 3.2  # more than twice what an idle one has
        while time.monotonic() < end:
            connection.sendall(HEALTH)
            assert read_answer(connection)[0] == 200
            select.select([], [], [], 0.1)


def test_a_connection_with_an_unread_body_is_closed(port: int):
    with connect(port) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
        assert read_answer(connection)[0] == 404
        wait_for(lambda: _is_refused(connection, b"0"), "still read")


def test_who_does_not_read_the_answer_is_cut_off(port: int):
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    holders = []
    try:
        for _ in range(4):
            holder = socket.socket()
            holders.append(holder)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            holder.settimeout(PATIENCE)
            holder.connect(("127.0.0.1", port))
            # More answers than the kernel takes; the next requests wait behind them.
            holder.sendall(request * 400)
        assert ask(port) == 503
        wait_for(lambda: ask(port) == 200, "those who do not read keep their places")
    finally:
        for holder in holders:
            holder.close()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /health HTTP/1.1\r\nX-Long: " + b"x" * 40_000 + b"\r\n\r\n", "head_too_large"),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n", "head_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"X: yyyyyyyyyyyyyyyy\r\n" * 2_500 + b"\r\n", "head_too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "bad_http"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "bad_http"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "bad_http"),
    ],
)
def test_a_head_that_is_none_or_too_long_is_refused(port: int, head: bytes, code: str):
    with connect(port) as connection:
        connection.sendall(head)
        status, headers, body = read_answer(connection)
        assert (status, body["error"]["code"]) == (400 if code == "bad_http" else 431, code)
        assert headers["connection"] == "close"
        assert headers.items() >= SECURITY.items()
        assert is_closed(connection)


@pytest.mark.parametrize(
    "begin",
    [
        b"GET / HTTP/1.1\r\nX-Long: ",
        b"GET / HTTP/1.1\r\n",
        b"GET /",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n0\r\nX-Trailer: ",
    ],
)
def test_a_head_without_end_is_cut_off_while_it_comes(port: int, begin: bytes):
    with connect(port) as connection:
        connection.sendall(begin)
        # 20 MB is more than the buffers of two sockets hold.
        assert any(_is_refused(connection, b"x" * 10_000) for _ in range(2_000))


def _is_refused(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_a_head_of_the_limit_is_served(port: int):
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"x" * 32_000 + b"\r\n\r\n"
    assert ask(port, head) == 200
