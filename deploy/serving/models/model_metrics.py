"""What Prometheus reads of the models: which are loaded, how each does, and what canaries and shadows come to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from prometheus_client import Counter, Gauge, Histogram

from deploy.serving.metrics import SECONDS, Metrics
from deploy.serving.models.models import ServedModel
from deploy.serving.models.roles import Role

__all__ = ["ModelMetrics"]

_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 1.0)


class ModelMetrics:
    """The counters of the models of one application, shown beside those of ``metrics``."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, registry = metrics, metrics.registry
        self._shown: set[tuple[str, ...]] = set()
        self._model = Gauge(
            "visionops_model_info",
            "1 for each model that is loaded.",
            ["name", "version", "alias", "role", "digest"],
            registry=registry,
            multiprocess_mode="livemax",
        )
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
        self._canary_comparisons = Counter(
            "visionops_canary_comparisons",
            "Images of a canary for the champion: compared, failed, or dropped because it was behind.",
            ["name", "outcome"],
            registry=registry,
        )
        self._canary_agreement = Histogram(
            "visionops_canary_agreement",
            "How far a canary's answer is what the champion computes for the image.",
            ["name"],
            buckets=_SHARES,
            registry=registry,
        )
        self._canary_duration = Histogram(
            "visionops_canary_duration_seconds",
            "What champion and canary took for the images that each answered, decoding not counted.",
            ["name", "role"],
            buckets=SECONDS,
            registry=registry,
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
            buckets=SECONDS,
            registry=registry,
        )

    def models(self, models: Iterable[tuple[Role, ServedModel]]) -> None:
        """These are loaded from now on."""
        now = {(*model.identity.values(), role.value, model.digest) for role, model in models}
        for labels in self._shown - now:
            if self._metrics.is_multiprocess:
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
        """Show at each scrape how many replaced models are still held by a request."""
        self._metrics.before_scrape(lambda: self._draining.set(count()))

    def model_image(self, model: ServedModel, outcome: str) -> None:
        """A model answered one image, or failed on it."""
        self._model_images.labels(model.ref.name, model.ref.version, outcome).inc()

    def load_failed(self, name: str, reason: str) -> None:
        """A model could not be loaded."""
        self._load_failures.labels(name, reason).inc()

    def canary_returned(self, name: str, reason: str) -> None:
        """A canary was sent away."""
        self._canary_returns.labels(name, reason).inc()

    def canary_took(self, name: str, role: Role, seconds: float) -> None:
        """A model answered one image while a canary had a share."""
        self._canary_duration.labels(name, role.value).observe(seconds)

    def canary_compared(self, name: str, agreement: float) -> None:
        """The champion computed an image that a canary had answered."""
        self.canary_not_compared(name, "compared")
        self._canary_agreement.labels(name).observe(agreement)

    def canary_not_compared(self, name: str, outcome: str) -> None:
        """An image of a canary was not compared: "failed", "dropped"."""
        self._canary_comparisons.labels(name, outcome).inc()

    def shadow(self, name: str, outcome: str) -> None:
        """An image was compared with the shadow's answer, or was not: "failed", "dropped"."""
        self._shadow_images.labels(name, outcome).inc()

    def compared(self, name: str, agreement: float, champion_seconds: float, shadow_seconds: float) -> None:
        """The shadow answered an image that the champion had answered."""
        self.shadow(name, "compared")
        self._shadow_agreement.labels(name).observe(agreement)
        self._shadow_duration.labels(name, "champion").observe(champion_seconds)
        self._shadow_duration.labels(name, "shadow").observe(shadow_seconds)
