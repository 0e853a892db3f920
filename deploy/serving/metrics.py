"""Count requests and predictions for Prometheus, with one registry per application.

If ``PROMETHEUS_MULTIPROC_DIR`` is set when the process starts, all processes of this machine with that value count
into files of that folder, and each returns the sum.

No label value comes from a request: routes come from the access table, reasons from the errors, classes from the
models. So clients cannot increase the number of series.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.samples import Sample

from visionops.inference.prediction import Prediction

__all__ = ["MULTIPROCESS_VARIABLE", "SECONDS", "Metrics"]

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bucket bounds of durations, in seconds."""
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_BYTES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_STAGES = ("decode", "preprocess", "postprocess")


class Metrics:
    """Metrics of one application."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.is_multiprocess = MULTIPROCESS_VARIABLE in os.environ
        """Whether several processes count into the same files."""
        if not self.is_multiprocess:
            ProcessCollector(registry=registry)
        self._requests = Counter("visionops_requests", "Answered requests.", ["route", "status"], registry=registry)
        self._duration = Histogram(
            "visionops_request_duration_seconds",
            "Time from the head of a request to the last byte of its response.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "visionops_in_flight", "Requests being answered.", registry=registry, multiprocess_mode="livesum"
        )
        self._queue = Gauge(
            "visionops_queue_depth",
            "Images in the queue.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._inference = Histogram(
            "visionops_inference_duration_seconds",
            "Time of the engine for one image.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self._stage = Histogram(
            "visionops_stage_duration_seconds",
            "Time of one image outside of the engine: queue, decode, preprocess, postprocess.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._predictions = Counter(
            "visionops_predictions",
            "Predicted classes, one per box or label.",
            ["model", "class"],
            registry=registry,
        )
        self._confidence = Histogram(
            "visionops_confidence",
            "Confidence of each box or label.",
            ["model"],
            buckets=_CONFIDENCES,
            registry=registry,
        )
        self._upload = Histogram("visionops_upload_bytes", "Bodies of requests.", buckets=_BYTES, registry=registry)
        self._batch = Histogram(
            "visionops_batch_size", "Images in one batch request.", buckets=_COUNTS, registry=registry
        )
        self._rejected = Counter("visionops_rejected", "Requests refused.", ["reason"], registry=registry)
        self._deadlines = Counter(
            "visionops_deadlines_missed",
            "Requests and frames with a missed deadline: refused at once, expired in the queue, or late.",
            ["reason"],
            registry=registry,
        )
        self._frames = Counter(
            "visionops_stream_frames",
            "Frames of streams that were answered, refused, or dropped for a newer one.",
            ["outcome"],
            registry=registry,
        )
        self._frame_seconds = Histogram(
            "visionops_stream_frame_seconds",
            "Time from the last byte of a frame to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        self._streams = Gauge("visionops_streams_open", "Open streams.", registry=registry, multiprocess_mode="livesum")
        self._keys_read = Gauge(
            "visionops_keys_last_read_successful",
            "Whether the file of API keys was valid when it was last read.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._keys_read.set(1)
        self._waiting: Callable[[], int] = lambda: 0
        self._before_scrape: list[Callable[[], None]] = []
        # Cached, because looking up a child by its labels costs as much as counting.
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._of_model: dict[str, tuple[Histogram, Histogram]] = {}
        self._of_class: dict[tuple[str, str], Counter] = {}
        self._of_stage = {stage: self._stage.labels(stage) for stage in _STAGES}
        self._of_queue = self._stage.labels("queue")
        # Created at zero, so that the first lost frame shows as an increase.
        self._of_frame = {outcome: self._frames.labels(outcome) for outcome in ("answered", "dropped", "refused")}

    @property
    def registry(self) -> CollectorRegistry:
        """Return the registry that `text` shows, to which optional metrics are added."""
        return self._registry

    def before_scrape(self, measure: Callable[[], None]) -> None:
        """Call ``measure`` before each `text`; it must not block."""
        self._before_scrape.append(measure)

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """Show the number of waiting images, which ``waiting`` returns."""
        self._waiting = waiting

    def keys_read(self, successful: bool) -> None:
        """Record that the file of API keys was read again."""
        self._keys_read.set(successful)

    def begin(self) -> None:
        """Count a request that starts."""
        self._in_flight.inc()

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        found = self._of_route.get((route, status))
        if found is None:
            found = self._requests.labels(route, str(status)), self._duration.labels(route)
            self._of_route[route, status] = found
        counter, duration = found
        counter.inc()
        duration.observe(seconds)
        self._in_flight.dec()
        self._queue.set(self._waiting())

    def prediction(
        self, model: str, prediction: Prediction, timing_ms: Mapping[str, float], queue_ms: float | None = None
    ) -> None:
        """Count one predicted image, with its time in the queue if known."""
        found = self._of_model.get(model)
        if found is None:
            found = self._of_model[model] = self._inference.labels(model), self._confidence.labels(model)
        inference, confidences = found
        inference.observe(timing_ms["inference"] / 1000)
        if queue_ms is not None:
            self._of_queue.observe(queue_ms / 1000)
        for stage, child in self._of_stage.items():
            if stage in timing_ms:
                child.observe(timing_ms[stage] / 1000)
        for class_name, confidence in prediction.labels():
            counter = self._of_class.get((model, class_name))
            if counter is None:
                counter = self._of_class[model, class_name] = self._predictions.labels(model, class_name)
            counter.inc()
            confidences.observe(confidence)

    def batch(self, images: int) -> None:
        """Count the images of a batch request."""
        self._batch.observe(images)

    def upload(self, size: int) -> None:
        """Count a body of ``size`` bytes."""
        self._upload.observe(size)

    def rejected(self, reason: str) -> None:
        """Count a refused request."""
        self._rejected.labels(reason).inc()

    def deadline_missed(self, reason: str) -> None:
        """Count a missed deadline of a request or frame."""
        self._deadlines.labels(reason).inc()

    def stream(self, opened: int) -> None:
        """Count a stream that was opened (1) or closed (-1)."""
        self._streams.inc(opened)

    def frame_dropped(self) -> None:
        """Count a frame that was dropped for a newer one."""
        self._of_frame["dropped"].inc()

    def frame_refused(self) -> None:
        """Count a frame that got an error."""
        self._of_frame["refused"].inc()

    def frame_answered(self, seconds: float) -> None:
        """Count an answered frame."""
        self._of_frame["answered"].inc()
        self._frame_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        self._queue.set(self._waiting())
        for measure in self._before_scrape:
            measure()
        return generate_latest(self._summed())

    def samples(self, *names: str) -> list[Sample]:
        """Return the current samples of these series, such as ``visionops_rejected_total``."""
        families = self._summed().collect()
        return [sample for family in families for sample in family.samples if sample.name in names]

    def _summed(self) -> CollectorRegistry:
        """Return a registry with the sums of all processes that share the files."""
        if not self.is_multiprocess:
            return self._registry
        registry = CollectorRegistry()
        _forget_dead(Path(os.environ[MULTIPROCESS_VARIABLE]))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry


def _forget_dead(folder: Path) -> None:
    """Remove the gauges of killed processes, whose models and requests would otherwise be shown forever."""
    for pid in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
