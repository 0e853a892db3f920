"""Count requests, decisions and logins of the console for Prometheus. No label value comes from a request."""

from __future__ import annotations

import threading
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from visionops.review.ports import Stats
from visionops.review.states import Verdict
from visionops.runs.states import Run

__all__ = ["ConsoleMetrics"]

_LONGEST_LOOK = 600.0
"""Longest time between two decisions in seconds that counts; after that the person did something else."""


class ConsoleMetrics:
    """Metrics of one console; implements `RequestCounts`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "visionops_console_requests", "Answered requests.", ["route", "status"], registry=registry
        )
        self._duration = Histogram(
            "visionops_console_request_duration_seconds", "Time to answer a request.", ["route"], registry=registry
        )
        self._in_flight = Gauge("visionops_console_in_flight", "Requests being answered.", registry=registry)
        self._upload = Counter("visionops_console_upload_bytes", "Bytes of bodies.", registry=registry)
        self._rejected = Counter("visionops_console_rejected", "Requests refused.", ["reason"], registry=registry)
        self._views = Counter("visionops_console_page_views", "Pages shown.", ["page"], registry=registry)
        self._predictions = Counter(
            "visionops_console_predictions", "Images predicted for a person.", ["result"], registry=registry
        )
        for result in ("ok", "failed"):
            self._predictions.labels(result)
        self._decisions = Counter(
            "visionops_console_decisions", "Images decided.", ["use_case", "verdict"], registry=registry
        )
        self._looks = Histogram(
            "visionops_console_decision_seconds",
            "Time between two decisions of a person; pauses of more than 10 minutes do not count.",
            ["use_case"],
            buckets=(0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._waiting = Gauge(
            "visionops_console_queue_items", "Images in review.", ["use_case", "state"], registry=registry
        )
        self._oldest = Gauge(
            "visionops_console_queue_oldest_seconds",
            "Age of the oldest waiting image; 0 if none is waiting.",
            ["use_case"],
            registry=registry,
        )
        self._sessions = Gauge("visionops_console_sessions", "Active sessions.", registry=registry)
        self._has_database = Gauge(
            "visionops_console_database_up", "Whether the database answered this scrape.", registry=registry
        )
        self._logins = Counter("visionops_console_logins", "Attempts to sign in.", ["result"], registry=registry)
        for result in ("ok", "wrong", "limited", "disabled", "failed"):
            self._logins.labels(result)
        self._runs = Counter("visionops_console_runs", "Runs that have ended.", ["kind", "state"], registry=registry)

    def begin(self) -> None:
        """Count a request that starts."""
        self._in_flight.inc()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(seconds)
        self._in_flight.dec()

    def upload(self, size: int) -> None:
        """Count a body of ``size`` bytes."""
        self._upload.inc(size)

    def rejected(self, reason: str) -> None:
        """Count a request that was refused."""
        self._rejected.labels(reason).inc()

    def viewed(self, page: str) -> None:
        """Count a page that was shown."""
        self._views.labels(page).inc()

    def predicted(self, *, is_ok: bool) -> None:
        """Count an image that was predicted for a person."""
        self._predictions.labels("ok" if is_ok else "failed").inc()

    def decided(self, use_case: str, verdict: Verdict, reviewer: str) -> None:
        """Count a decision, and the time since the same person's previous one."""
        now = time.monotonic()
        self._decisions.labels(use_case, verdict.value).inc()
        with self._lock:
            before, self._last[reviewer] = self._last.get(reviewer), now
        if before is not None and now - before <= _LONGEST_LOOK:
            self._looks.labels(use_case).observe(now - before)

    def database(self, queues: dict[str, tuple[Stats, float]] | None, sessions: int = 0) -> None:
        """Set the gauges of the database.

        Args:
            queues: State of each use case's queue, and the age of its oldest waiting image in seconds; None if the
                database did not answer.
            sessions: Number of active sessions.
        """
        self._has_database.set(queues is not None)
        if queues is None:
            self._waiting.clear()
            self._oldest.clear()
            return
        for name, (stats, oldest) in queues.items():
            for state, count in stats.states.items():
                self._waiting.labels(name, state).set(count)
            self._oldest.labels(name).set(oldest)
        self._sessions.set(sessions)

    def login(self, result: str) -> None:
        """Count an attempt to sign in: ``ok``, ``wrong``, ``limited``, ``disabled`` or ``failed`` at a provider."""
        self._logins.labels(result).inc()

    def run_ended(self, run: Run) -> None:
        """Count a run that has ended."""
        self._runs.labels(run.request.kind.value, run.state.value).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
