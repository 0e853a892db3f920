"""Give each request an id and a log line, which never contains an image, a key, a file name or a query string."""

from __future__ import annotations

import contextlib
import logging
import re
import time
import uuid
from collections.abc import Sequence

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from deploy.http.counting import RequestCounts
from deploy.http.error_responses import refusal_of

__all__ = ["SECURITY_HEADERS", "RequestLog"]

_log = logging.getLogger("visionops.serving")
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""Pattern of a `traceparent` header, https://www.w3.org/TR/trace-context/."""
_CLIENT_LEFT = 499
_SWITCHING = 101
_INTERNAL_ERROR = 1011
"""Close code of a WebSocket after an unexpected error."""
_HEADS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Headers of every response."""


class RequestLog:
    """Middleware that gives every request an id, counts and logs it, and turns an unexpected exception into a 500.

    Every response gets the security headers. A route may replace two of them: ``state["cache_control"]`` says how long
    the response may be cached, ``state["content_policy"]`` what its page may load. The headers in ``state["headers"]``
    are added. Requests for ``probes``, paths that machines poll, are logged at level debug. ``state["arrived"]`` is
    the time when the head of the request arrived, on the clock of `time.monotonic`.

    A WebSocket counts as a request with status 101: it is counted and logged when it is accepted. Its route counts and
    logs the messages.

    Args:
        security: Headers of every response.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: RequestCounts,
        probes: frozenset[str],
        security: Sequence[tuple[bytes, bytes]] = SECURITY_HEADERS,
    ) -> None:
        self._app = app
        self._security = security
        self._probes = probes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")
        if not _SAFE_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex.encode()
        own = [*self._security, (b"x-request-id", request_id)]
        trace = _TRACE.fullmatch(headers.get(b"traceparent", b""))
        if trace is not None:
            own.append((b"traceparent", trace[0]))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        state["arrived"] = time.monotonic()
        status, is_noted = 0, False

        def note() -> None:
            nonlocal is_noted
            is_noted = True
            self._note(scope, status, time.perf_counter() - start, trace)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] in _HEADS:
                status = message.get("status", _SWITCHING)
                own_now = _replaced(own, b"cache-control", state.get("cache_control"))
                own_now = _replaced(own_now, b"content-security-policy", state.get("content_policy"))
                message["headers"] = [*message.get("headers", ()), *own_now, *state.get("headers", ())]
            await send(message)
            if message["type"] == "websocket.accept":
                note()

        self._metrics.begin()
        start = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except (ClientDisconnect, WebSocketDisconnect):
            status = _CLIENT_LEFT
        except Exception:  # noqa: BLE001 - logged in full right below
            # The traceback goes to the log; the client gets a code and the request id.
            _log.exception("unhandled_error", extra={"fields": {"request_id": request_id.decode()}})
            if status == 0:
                message = f"unexpected error; request {request_id.decode()}"
                answer = refusal_of(scope["path"], 500, "internal_error", message)
                await answer(scope, receive, send_with_id)
            elif status == _SWITCHING:
                with contextlib.suppress(OSError, RuntimeError):  # the client has disconnected
                    await send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": "internal_error"})
        if not is_noted:
            note()

    def _note(self, scope: Scope, status: int, seconds: float, trace: re.Match[bytes] | None) -> None:
        state = scope["state"]
        route = state.get("route", "unmatched")
        self._metrics.request(route, status, seconds)
        level = logging.DEBUG if route in self._probes else logging.INFO
        if _log.isEnabledFor(level):
            fields = {
                "request_id": state["request_id"],
                "method": scope.get("method", "GET"),
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 2),
            }
            if trace is not None:
                fields["trace_id"] = trace[1].decode()
            if "key" in state:
                fields["key"] = state["key"]
            # `_log.log` would also look up the calling line of code, which is a third of its cost.
            record = logging.LogRecord(_log.name, level, "", 0, "request", None, None)
            record.fields = fields | state.get("log", {})
            _log.handle(record)


def _replaced(headers: list[tuple[bytes, bytes]], header: bytes, wanted: str | None) -> list[tuple[bytes, bytes]]:
    if wanted is None:
        return headers
    return [(name, wanted.encode() if name == header else value) for name, value in headers]
