"""One JSON object per line; request ids; never an image, a key, a file's name or a query string."""

from __future__ import annotations

import functools
import logging
import logging.handlers
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.serving.access import PROBES
from deploy.serving.errors import refusal_of
from deploy.serving.metrics import Metrics

__all__ = ["SECURITY_HEADERS", "JsonLines", "RequestLog", "configure_logging"]

_log = logging.getLogger("visionops.serving")
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""A `traceparent`, https://www.w3.org/TR/trace-context/."""
_CLIENT_LEFT = 499
_MAX_LOG_BYTES = 10_000_000
_LINES_PER_CHECK = 100
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Of every answer."""


class JsonLines(logging.Formatter):
    """Formats a record, and the fields of ``extra={"fields": {...}}``, as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line break."""
        line = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}+00:00",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logging(log_file: Path | None) -> None:
    """Send our lines, and uvicorn's warnings, to ``log_file`` or to standard output."""
    handler: logging.Handler = _LogFile(log_file) if log_file else logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    # Not in our lines, and a quarter of the cost of a record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = logging.logAsyncioTasks = False
    for name, level in (("visionops", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _LogFile(logging.handlers.RotatingFileHandler):
    """Asks the file for its size now and then: to ask at each line costs more than to write it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_MAX_LOG_BYTES, backupCount=2, encoding="utf-8")
        self._lines = 0

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        self._lines += 1
        return self._lines % _LINES_PER_CHECK == 0 and bool(super().shouldRollover(record))


class RequestLog:
    """Gives every request an id, counts and logs it, and turns an unforeseen exception into a plain 500.

    Every answer gets the headers of security, and those that ``state["headers"]`` has for it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"")
        if not _SAFE_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex.encode()
        own = [*SECURITY_HEADERS, (b"x-request-id", request_id)]
        trace = _TRACE.fullmatch(headers.get(b"traceparent", b""))
        if trace is not None:
            own.append((b"traceparent", trace[0]))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id.decode()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *own, *state.get("headers", ())]
            await send(message)

        self._metrics.begin()
        start = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_LEFT
        except Exception:  # noqa: BLE001 - logged in full right below
            # The last line of defence: the log gets the trace, the client a code and the id to ask with.
            _log.exception("unhandled_error", extra={"fields": {"request_id": request_id.decode()}})
            if status == 0:
                message = f"unexpected error; request {request_id.decode()}"
                answer = refusal_of(scope["path"], 500, "internal_error", message)
                await answer(scope, receive, send_with_id)
        route = state.get("route", "unmatched")
        seconds = time.perf_counter() - start
        self._metrics.request(route, status, seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        if _log.isEnabledFor(level):
            fields = {
                "request_id": request_id.decode(),
                "method": scope["method"],
                "route": route,
                "status": status,
                "duration_ms": round(seconds * 1000, 2),
            }
            if trace is not None:
                fields["trace_id"] = trace[1].decode()
            if "key" in state:
                fields["key"] = state["key"]
            # Not by `_log.log`, which looks for the line of code that called it: a third of the cost.
            record = logging.LogRecord(_log.name, level, "", 0, "request", None, None)
            record.fields = fields | state.get("log", {})
            _log.handle(record)


@functools.lru_cache(maxsize=2)
def _second(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S")
