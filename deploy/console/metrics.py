"""What Prometheus reads of the console. No label comes from a request."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from visionops.runs.states import Run

__all__ = ["ConsoleMetrics"]


class ConsoleMetrics:
    """The counters of one console; implements `RequestCounts`."""

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
        self._runs = Counter("visionops_console_runs", "Runs that have ended.", ["kind", "state"], registry=registry)

    def begin(self) -> None:
        """Count a request that has come."""
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

    def run_ended(self, run: Run) -> None:
        """Count a run that has ended."""
        self._runs.labels(run.wish.kind.value, run.state.value).inc()

    def text(self) -> bytes:
        """Return all of it, in Prometheus' text format."""
        return generate_latest(self._registry)
