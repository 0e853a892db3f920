"""Limit the number of connections, the time one may be idle, and the size of a request's head.

uvicorn waits forever for the first request of a connection, for the rest of a head, for the rest of a body that no
route reads, and for a client that does not read its response.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, Protocol, cast

import httptools
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.http.request_log import SECURITY_HEADERS

__all__ = ["Server", "limited_protocol"]

_MAX_HEAD_BYTES = 32 * 1024
_TICKS_PER_SWEEP = 2


def _refusal(status: HTTPStatus, code: str, message: str, *headers: bytes) -> bytes:
    body = orjson.dumps({"error": {"code": code, "message": message}})
    lines = [
        f"HTTP/1.1 {status} {status.phrase}".encode(),
        b"content-type: application/json",
        b"content-length: %d" % len(body),
        b"connection: close",
        *(b"%b: %b" % header for header in SECURITY_HEADERS),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", body])


_FULL = _refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections",
    "too many connections; try again in a second",
    b"retry-after: 1",
)
_NO_HTTP = _refusal(HTTPStatus.BAD_REQUEST, "bad_http", "this is no request of HTTP/1.1")
_LARGE_HEAD = _refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
    f"the request's address and headers exceed {_MAX_HEAD_BYTES} bytes; send less of them",
)


def limited_protocol(most: int, on_refused: Callable[[str], None]) -> type[HttpToolsProtocol]:
    """Return a protocol class that accepts at most ``most`` connections at once."""

    class Connection(_Connection):
        most_connections = most
        refused = staticmethod(on_refused)

    return Connection


class _Connection(HttpToolsProtocol):
    most_connections: ClassVar[int]
    refused: ClassVar[staticmethod[[str], None]]
    _head_bytes = 0
    _swallowed_bytes = 0
    _is_head_too_large = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self.refused("too_many_connections")
            transport.write(_FULL)
            transport.close()

    def _should_upgrade(self) -> bool:
        # A WebSocket is opened by GET; uvicorn would give any other method to a parser that fails on it.
        return bool(self.scope["method"] == "GET" and super()._should_upgrade())

    def data_received(self, data: bytes) -> None:
        # The parser does not report an unfinished header, however long it grows.
        self._swallowed_bytes += len(data)
        super().data_received(data)
        if self._swallowed_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self._is_head_too_large = True
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says more
        self.refused("head_too_large" if self._is_head_too_large else "bad_http")
        self.transport.write(_LARGE_HEAD if self._is_head_too_large else _NO_HTTP)
        self.transport.close()

    def on_message_begin(self) -> None:
        self._head_bytes = self._swallowed_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._swallowed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._swallowed_bytes = 0
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._swallowed_bytes = 0
        self._head_bytes += size
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise httptools.HttpParserError("the head is too large")


@dataclasses.dataclass(slots=True)
class _Idle:
    cycle: object
    since: float


class _HasTransport(Protocol):
    transport: Any


class Server(uvicorn.Server):
    """Server that closes a connection after ``idle_seconds`` without a request, or without reading its response.

    The route of a WebSocket decides how long it may be silent; it is closed here only if the client does not read.
    """

    def __init__(self, config: uvicorn.Config, idle_seconds: float) -> None:
        super().__init__(config)
        self._idle_seconds = idle_seconds
        self._idle: dict[_HasTransport, _Idle] = {}

    async def on_tick(self, counter: int) -> bool:
        """Close idle connections; uvicorn calls this ten times a second."""
        if counter % _TICKS_PER_SWEEP == 0:
            self._sweep(time.monotonic())
        return await super().on_tick(counter)

    def _sweep(self, now: float) -> None:
        idle: dict[_HasTransport, _Idle] = {}
        for connection in cast("set[Any]", self.server_state.connections):
            is_http = isinstance(connection, HttpToolsProtocol)
            if not is_http and not _is_unread(connection):
                continue
            cycle = connection.cycle if is_http else None
            if cycle is not None and not cycle.response_started and not _is_unread(connection):
                continue  # being processed: the dispatcher and the body limits apply
            seen = self._idle.get(connection)
            # A connection in use has a new cycle for each request.
            idle[connection] = seen if seen is not None and seen.cycle is cycle else _Idle(cycle, now)
        for connection, state in idle.items():
            if now - state.since > self._idle_seconds:
                if _is_unread(connection):
                    connection.transport.abort()  # `close` would wait until the client has read everything
                else:
                    connection.transport.close()
        self._idle = idle


def _is_unread(connection: _HasTransport) -> bool:
    """Return whether the client still has data to read: uvicorn counts a response as done before it is sent."""
    return bool(connection.transport.get_write_buffer_size() > 0)
