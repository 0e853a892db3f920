"""What Prometheus reads: one registry per application, so that two applications in one process never share counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from deploy.serving.models import ServedModel
from visionops.inference.prediction import Prediction

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "visionops_requests", "Answered requests.", ["route", "status"], registry=self._registry
        )
        self._duration = Histogram(
            "visionops_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._inference = Histogram(
            "visionops_inference_duration_seconds",
            "What the engine took for one image.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._predictions = Counter(
            "visionops_predictions", "Classes answered: of each box, each label.", ["class"], registry=self._registry
        )
        self._rejected = Counter("visionops_rejected", "Images refused.", ["reason"], registry=self._registry)
        self._model = Gauge(
            "visionops_model_info",
            "1 for each model that answers.",
            ["name", "version", "alias", "digest"],
            registry=self._registry,
        )
        self._keys_read = Gauge(
            "visionops_keys_last_read_successful",
            "Whether the file of API keys could be used.",
            registry=self._registry,
        )
        self._keys_read.set(1)

    def keys_read(self, successful: bool) -> None:
        """The file of API keys was read again."""
        self._keys_read.set(successful)

    def models(self, models: Iterable[ServedModel]) -> None:
        """These answer from now on."""
        self._model.clear()
        for model in models:
            self._model.labels(**model.identity, digest=model.digest).set(1)

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(seconds)

    def prediction(self, prediction: Prediction, timing_ms: Mapping[str, float]) -> None:
        """One image was answered."""
        self._inference.observe(timing_ms["inference"] / 1000)
        for class_name, _ in prediction.labels():
            self._predictions.labels(class_name).inc()

    def rejected(self, reason: str) -> None:
        """One image was refused."""
        self._rejected.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
