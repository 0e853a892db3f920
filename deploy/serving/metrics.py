"""What Prometheus reads: one registry per application, so that two applications in one process never share counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from deploy.serving.models import ServedModel
from deploy.serving.roles import Role
from visionops.inference.prediction import Prediction

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)


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
            "1 for each model that is loaded.",
            ["name", "version", "alias", "role", "digest"],
            registry=self._registry,
        )
        self._keys_read = Gauge(
            "visionops_keys_last_read_successful",
            "Whether the file of API keys could be used.",
            registry=self._registry,
        )
        self._keys_read.set(1)
        self._add_models()

    def keys_read(self, successful: bool) -> None:
        """The file of API keys was read again."""
        self._keys_read.set(successful)

    def _add_models(self) -> None:
        """What several models, and their roles, are watched by."""
        registry = self._registry
        self._draining = Gauge(
            "visionops_models_draining", "Replaced models that requests in flight still hold.", registry=registry
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

    def models(self, models: Iterable[tuple[Role, ServedModel]]) -> None:
        """These are loaded from now on."""
        self._model.clear()
        for role, model in models:
            self._model.labels(**model.identity, role=role.value, digest=model.digest).set(1)

    def watch_draining(self, count: Callable[[], int]) -> None:
        """``count`` tells how many replaced models are still held by a request."""
        self._draining.set_function(count)

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
