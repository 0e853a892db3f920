"""What Prometheus reads of the models: which are loaded, how each does, and what canaries and shadows come to."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable

from prometheus_client import Counter, Gauge, Histogram

from deploy.serving.metrics import SECONDS, Metrics
from deploy.serving.models.models import ServedModel
from deploy.serving.models.roles import ModelRole
from visionops.inference.autotune import StreamTuner

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
        self._streams = Gauge(
            "visionops_streams",
            "Images that a model computes side by side under load.",
            ["name", "version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._mode_rate = Gauge(
            "visionops_mode_rate",
            "Images per second of a model in each mode, measured while requests waited.",
            ["name", "version", "streams"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._mode_switches = Counter(
            "visionops_mode_switches",
            "Changes of the number of images that a model computes side by side.",
            ["name", "version"],
            registry=registry,
        )
        self._switches_shown: weakref.WeakKeyDictionary[StreamTuner, int] = weakref.WeakKeyDictionary()
        self._modes_shown: set[tuple[str, ...]] = set()
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

    def watch_modes(self, models: Callable[[], Iterable[tuple[ModelRole, ServedModel]]]) -> None:
        """Show at each scrape how many images each model computes side by side, and how fast its modes are."""
        self._metrics.before_scrape(lambda: self._show_modes(models()))

    def models(self, models: Iterable[tuple[ModelRole, ServedModel]]) -> None:
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

    def _show_modes(self, models: Iterable[tuple[ModelRole, ServedModel]]) -> None:
        shown: dict[tuple[str, ...], float] = {}
        for _, model in models:
            which, tuner = (model.ref.name, model.ref.version), model.mode.tuner
            shown[which] = model.mode.streams
            switches = self._mode_switches.labels(*which)
            if tuner is None:
                continue
            state = tuner.state
            switches.inc(state.switches - self._switches_shown.get(tuner, 0))
            self._switches_shown[tuner] = state.switches
            for streams, rate in state.images_per_second.items():
                shown[*which, str(streams)] = rate
        for labels in self._modes_shown - shown.keys():
            gauge = self._mode_rate if len(labels) == 3 else self._streams
            if self._metrics.is_multiprocess:
                gauge.labels(*labels).set(0)  # a series cannot be taken out of the files
            else:
                gauge.remove(*labels)
        for labels, value in shown.items():
            (self._mode_rate if len(labels) == 3 else self._streams).labels(*labels).set(value)
        self._modes_shown = set(shown)

    def model_image(self, model: ServedModel, outcome: str) -> None:
        """A model answered one image, or failed on it."""
        self._model_images.labels(model.ref.name, model.ref.version, outcome).inc()

    def load_failed(self, name: str, reason: str) -> None:
        """A model could not be loaded."""
        self._load_failures.labels(name, reason).inc()

    def canary_returned(self, name: str, reason: str) -> None:
        """A canary was sent away."""
        self._canary_returns.labels(name, reason).inc()

    def canary_took(self, name: str, role: ModelRole, seconds: float) -> None:
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
