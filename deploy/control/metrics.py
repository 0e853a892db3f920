"""Count requests and runs of the control service for Prometheus. No label value comes from a request."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from visionops.runs.states import ENDED, Kind, Run

__all__ = ["ControlMetrics"]


class ControlMetrics:
    """Counters of one application; implements `RequestCounts`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "visionops_control_requests", "Answered requests.", ["route", "status"], registry=registry
        )
        self._duration = Histogram(
            "visionops_control_request_duration_seconds",
            "Time from the head of a request to the last byte of its response.",
            ["route"],
            registry=registry,
        )
        self._in_flight = Gauge("visionops_control_in_flight", "Requests being answered.", registry=registry)
        self._upload = Counter("visionops_control_upload_bytes", "Bytes of bodies.", registry=registry)
        self._rejected = Counter("visionops_control_rejected", "Requests refused.", ["reason"], registry=registry)
        self._runs = Counter("visionops_control_runs", "Runs that have ended.", ["kind", "state"], registry=registry)
        for kind in Kind:
            for state in sorted(ENDED):  # series start at 0, so that the first lost run is an increase
                self._runs.labels(kind.value, state.value)
        self._queued = Gauge("visionops_control_queued_runs", "Runs in the queue.", registry=registry)
        self._held_up = Gauge(
            "visionops_control_held_up_runs",
            "Runs in the queue although their use case has no active run.",
            registry=registry,
        )
        self._has_database = Gauge(
            "visionops_control_database_up", "Whether the database answered this scrape.", registry=registry
        )

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

    def run_ended(self, run: Run) -> None:
        """Count a run that has ended."""
        self._runs.labels(run.request.kind.value, run.state.value).inc()

    def queue(self, waiting: tuple[int, int] | None) -> None:
        """Set the gauges of the queue.

        Args:
            waiting: Result of `RunStore.waiting`; None if the database did not answer.
        """
        self._has_database.set(waiting is not None)
        queued, held_up = (math.nan, math.nan) if waiting is None else waiting
        self._queued.set(queued)
        self._held_up.set(held_up)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
