"""One JSON object per line; request ids; never an image, a key or a query string."""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.serving.errors import refusal_of
from deploy.serving.metrics import Metrics

__all__ = ["JsonLines", "RequestLog", "configure_logging"]

_log = logging.getLogger("visionops.serving")
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PROBES = {"/health", "/ready", "/metrics", "/v2/health/live", "/v2/health/ready"}
_CLIENT_LEFT = 499
_MAX_LOG_BYTES = 10_000_000


class JsonLines(logging.Formatter):
    """Formats a record, and the fields of ``extra={"fields": {...}}``, as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line break."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(log_file: Path | None) -> None:
    """Send our lines, and uvicorn's warnings, to ``log_file`` or to standard output."""
    handler: logging.Handler = (
        logging.handlers.RotatingFileHandler(log_file, maxBytes=_MAX_LOG_BYTES, backupCount=2, encoding="utf-8")
        if log_file
        else logging.StreamHandler(sys.stdout)
    )
    handler.setFormatter(JsonLines())
    for name, level in (("visionops", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class RequestLog:
    """Gives every request an id, counts and logs it, and turns an unforeseen exception into a plain 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id", ""))
        scope.setdefault("state", {})["request_id"] = request_id
        start, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_LEFT
        except Exception:  # noqa: BLE001 - logged in full right below
            # The last line of defence: the log gets the trace, the client a code and the id to ask with.
            _log.exception("unhandled_error", extra={"fields": {"request_id": request_id}})
            if status == 0:
                response = refusal_of(scope["path"], 500, "internal_error", f"unexpected error; request {request_id}")
                await response(scope, receive, send_with_id)
        state = scope.get("state", {})
        route = state.get("route", "unmatched")
        seconds = time.perf_counter() - start
        self._metrics.request(route, status, seconds)
        _log.log(
            logging.DEBUG if route in _PROBES else logging.INFO,
            "request",
            extra={
                "fields": {
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "duration_ms": round(seconds * 1000, 2),
                    **({"key": state["key"]} if "key" in state else {}),
                    **state.get("log", {}),
                }
            },
        )


def _request_id(offered: str) -> str:
    return offered if _SAFE_ID.fullmatch(offered) else uuid.uuid4().hex
