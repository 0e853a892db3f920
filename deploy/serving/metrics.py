"""What Prometheus reads: one registry per application, so that two applications in one process never share counts.

With ``PROMETHEUS_MULTIPROC_DIR`` set when the process starts, all processes of this machine that have it count into
files of that folder, and each answers with the sum.

No label comes from a request: routes are those of the table of access, reasons those of the errors, classes those of
the models. So the number of series is bounded, whatever is sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from deploy.serving.models.models import ServedModel
from deploy.serving.models.roles import Role
from visionops.inference.prediction import Prediction

__all__ = ["MULTIPROCESS_VARIABLE", "NO_RECORD", "Metrics"]

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
NO_RECORD = "failed"
"""Outcome of a prediction of which no record could be made."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_BYTES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_STAGES = ("decode", "preprocess", "postprocess")


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._is_multiprocess = MULTIPROCESS_VARIABLE in os.environ
        if not self._is_multiprocess:
            ProcessCollector(registry=registry)
        self._requests = Counter("visionops_requests", "Answered requests.", ["route", "status"], registry=registry)
        self._duration = Histogram(
            "visionops_request_duration_seconds",
            "From the head of a request to the last byte of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "visionops_in_flight", "Requests being answered.", registry=registry, multiprocess_mode="livesum"
        )
        self._queue = Gauge(
            "visionops_queue_depth",
            "Images that wait for their turn.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._inference = Histogram(
            "visionops_inference_duration_seconds",
            "What the engine took for one image.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage = Histogram(
            "visionops_stage_duration_seconds",
            "What one image took beside the engine: waiting (queue), decode, preprocess, postprocess.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._predictions = Counter(
            "visionops_predictions",
            "Classes answered: of each box, each label.",
            ["model", "class"],
            registry=registry,
        )
        self._confidence = Histogram(
            "visionops_confidence",
            "Confidence of each box, each label.",
            ["model"],
            buckets=_CONFIDENCES,
            registry=registry,
        )
        self._upload = Histogram("visionops_upload_bytes", "Bodies of requests.", buckets=_BYTES, registry=registry)
        self._batch = Histogram(
            "visionops_batch_size", "Images of one request for many.", buckets=_COUNTS, registry=registry
        )
        self._rejected = Counter("visionops_rejected", "Requests refused.", ["reason"], registry=registry)
        self._model = Gauge(
            "visionops_model_info",
            "1 for each model that is loaded.",
            ["name", "version", "alias", "role", "digest"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._keys_read = Gauge(
            "visionops_keys_last_read_successful",
            "Whether the file of API keys could be used when it was last read.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._keys_read.set(1)
        self._add_models()
        self._waiting: Callable[[], int] = lambda: 0
        self._count_draining: Callable[[], int] = lambda: 0
        self._measure_disk: Callable[[], None] = lambda: None
        self._show_unshipped: Callable[[], None] = lambda: None
        self._shown: set[tuple[str, ...]] = set()
        # Looking a child up by its labels costs as much as counting.
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._of_model: dict[str, tuple[Histogram, Histogram]] = {}
        self._of_class: dict[tuple[str, str], Counter] = {}
        self._of_stage = {stage: self._stage.labels(stage) for stage in _STAGES}
        self._of_queue = self._stage.labels("queue")

    def watch_queue(self, waiting: Callable[[], int]) -> None:
        """``waiting`` tells how many images wait."""
        self._waiting = waiting

    def keys_read(self, successful: bool) -> None:
        """The file of API keys was read again."""
        self._keys_read.set(successful)

    def _add_models(self) -> None:
        """What several models, and their roles, are watched by."""
        registry = self._registry
        self._ready = Gauge(
            "visionops_ready",
            "Whether any model answers, as /ready says.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._missing = Gauge(
            "visionops_models_missing",
            "Names that are to be served and have no model that answers.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._draining = Gauge(
            "visionops_models_draining",
            "Replaced models that requests in flight still hold.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._model_images = Counter(
            "visionops_model_images",
            "Images that a model answered, or failed on.",
            ["name", "version", "outcome"],
            registry=registry,
        )
        self._load_failures = Counter(
            "visionops_model_load_failures", "Models that could not be loaded.", ["name", "reason"], registry=registry
        )
        self._canary_returns = Counter(
            "visionops_canary_returns", "Canaries sent away by their bounds.", ["name", "reason"], registry=registry
        )
        self._shadow_images = Counter(
            "visionops_shadow_images",
            "Images for a shadow: compared, failed, or dropped because it was behind.",
            ["name", "outcome"],
            registry=registry,
        )
        self._shadow_agreement = Histogram(
            "visionops_shadow_agreement",
            "How far a shadow's answer is the champion's: F1 of matched boxes, or share of equal classes.",
            ["name"],
            buckets=_SHARES,
            registry=registry,
        )
        self._shadow_duration = Histogram(
            "visionops_shadow_duration_seconds",
            "What champion and shadow took for the same images, decoding not counted.",
            ["name", "role"],
            buckets=_SECONDS,
            registry=registry,
        )

    def keep_prediction_log(self, outcomes: Iterable[str]) -> None:
        """Predictions are remembered from now on; of each one of these comes, or `NO_RECORD`."""
        self._records = Counter(
            "visionops_prediction_log_records",
            "Predictions that the log has, or that it lost and why.",
            ["outcome"],
            registry=self._registry,
        )
        self._last_record = Gauge(
            "visionops_prediction_log_last_write_timestamp_seconds",
            "When the log last had a record written.",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self._of_outcome = {outcome: self._records.labels(outcome) for outcome in (*outcomes, NO_RECORD)}

    def watch_disk(self, look: Callable[[], tuple[int, int] | None]) -> None:
        """``look`` tells the free bytes of the prediction log's disk and all it has; it must not wait."""
        free = Gauge(
            "visionops_prediction_log_disk_free_bytes",
            "Room on the disk of the prediction log.",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        size = Gauge(
            "visionops_prediction_log_disk_size_bytes",
            "Size of the disk of the prediction log.",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )

        def measure() -> None:
            if found := look():
                free.set(found[0])
                size.set(found[1])

        self._measure_disk = measure

    def recorded(self, outcome: str, records: int = 1) -> None:
        """So many predictions were written into the log, or were not."""
        self._of_outcome[outcome].inc(records)
        if outcome == "written":
            self._last_record.set_to_current_time()

    def watch_unshipped(self, count: Callable[[], int]) -> None:
        """``count`` tells how many closed segments of the log its store does not have yet."""
        gauge = Gauge(
            "visionops_prediction_log_unshipped_segments",
            "Closed segments of the log that its store does not have yet.",
            registry=self._registry,
            multiprocess_mode="livemax",
        )
        self._show_unshipped = lambda: gauge.set(count())
        self._show_unshipped()

    def keep_images(self, outcomes: Iterable[str]) -> None:
        """A share of the images is kept from now on; of each one of these comes."""
        images = Counter(
            "visionops_prediction_log_images",
            "Sampled images that were kept, or lost and why.",
            ["outcome"],
            registry=self._registry,
        )
        self._of_image = {outcome: images.labels(outcome) for outcome in outcomes}

    def image_kept(self, outcome: str) -> None:
        """One sampled image was written, or was not."""
        self._of_image[outcome].inc()

    def models(self, models: Iterable[tuple[Role, ServedModel]]) -> None:
        """These are loaded from now on."""
        now = {(*model.identity.values(), role.value, model.digest) for role, model in models}
        for labels in self._shown - now:
            if self._is_multiprocess:
                self._model.labels(*labels).set(0)  # a series cannot be taken out of the files
            else:
                self._model.remove(*labels)
        for labels in now:
            self._model.labels(*labels).set(1)
        self._shown = now

    def names(self, ready: Collection[bool]) -> None:
        """So many names are to be served; each is ready or not."""
        self._ready.set(any(ready))
        self._missing.set(len(ready) - sum(ready))

    def watch_draining(self, count: Callable[[], int]) -> None:
        """``count`` tells how many replaced models are still held by a request."""
        self._count_draining = count

    def model_image(self, model: ServedModel, outcome: str) -> None:
        """A model answered one image, or failed on it."""
        self._model_images.labels(model.ref.name, model.ref.version, outcome).inc()

    def load_failed(self, name: str, reason: str) -> None:
        """A model could not be loaded."""
        self._load_failures.labels(name, reason).inc()

    def canary_returned(self, name: str, reason: str) -> None:
        """A canary was sent away."""
        self._canary_returns.labels(name, reason).inc()

    def shadow(self, name: str, outcome: str) -> None:
        """An image was compared with the shadow's answer, or was not: "failed", "dropped"."""
        self._shadow_images.labels(name, outcome).inc()

    def compared(self, name: str, agreement: float, champion_seconds: float, shadow_seconds: float) -> None:
        """The shadow answered an image that the champion had answered."""
        self.shadow(name, "compared")
        self._shadow_agreement.labels(name).observe(agreement)
        self._shadow_duration.labels(name, "champion").observe(champion_seconds)
        self._shadow_duration.labels(name, "shadow").observe(shadow_seconds)

    def begin(self) -> None:
        """A request has come."""
        self._in_flight.inc()

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
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
        """One image was answered, after ``queue_ms`` in line where that is known."""
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
        """A request brought so many images."""
        self._batch.observe(images)

    def upload(self, size: int) -> None:
        """A body of ``size`` bytes came."""
        self._upload.observe(size)

    def rejected(self, reason: str) -> None:
        """One request was refused."""
        self._rejected.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        self._queue.set(self._waiting())
        self._draining.set(self._count_draining())
        self._measure_disk()
        self._show_unshipped()
        if not self._is_multiprocess:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        _forget_dead(Path(os.environ[MULTIPROCESS_VARIABLE]))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_dead(folder: Path) -> None:
    """A process that was killed took no leave: its models and requests in work would be shown for ever."""
    for pid in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
