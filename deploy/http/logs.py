"""Write log lines, one JSON object per line."""

from __future__ import annotations

import functools
import logging
import logging.handlers
import sys
from datetime import UTC, datetime
from pathlib import Path

import orjson

__all__ = ["JsonLines", "configure_logging"]

_MAX_LOG_BYTES = 10_000_000
_LINES_PER_CHECK = 100


class JsonLines(logging.Formatter):
    """Formats a record, and the fields of ``extra={"fields": {...}}``, as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line break."""
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
    # Our lines do not contain these, and collecting them is a quarter of the cost of a record.
    for fact in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, fact, False)
    for name, level in (("visionops", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class _LogFile(logging.handlers.RotatingFileHandler):
    """Log file that checks its size only now and then, because a check costs more than writing a line."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_MAX_LOG_BYTES, backupCount=2, encoding="utf-8")
        self._lines = 0

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - logging's name
        self._lines += 1
        return self._lines % _LINES_PER_CHECK == 0 and bool(super().shouldRollover(record))


@functools.lru_cache(maxsize=2)
def _second(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S")
