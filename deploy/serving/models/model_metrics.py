"""Count loaded models, their results, and the comparisons of canaries and shadows for Prometheus."""

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
    """Metrics of the models of one application, in the registry of ``metrics``."""

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
            "Images that a model computes in parallel under load.",
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
            "Changes of the number of images that a model computes in parallel.",
            ["name", "version"],
            registry=registry,
        )
        self._switches_shown: weakref.WeakKeyDictionary[StreamTuner, int] = weakref.WeakKeyDictionary()
        self._modes_shown: set[tuple[str, ...]] = set()
        self._ready = Gauge(
            "visionops_ready",
            "Whether any model is ready, as in /ready.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._missing = Gauge(
            "visionops_models_missing",
            "Names that should be served but have no loaded model.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._draining = Gauge(
            "visionops_models_draining",
            "Replaced models that running requests still hold.",
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
            "visionops_canary_returns", "Canaries withdrawn for a broken bound.", ["name", "reason"], registry=registry
        )
        self._canary_comparisons = Counter(
            "visionops_canary_comparisons",
            "Images of a canary, repeated by the champion: compared, failed, or dropped because the queue was full.",
            ["name", "outcome"],
            registry=registry,
        )
        self._canary_agreement = Histogram(
            "visionops_canary_agreement",
            "Agreement of a canary's answer with the champion's for the same image.",
            ["name"],
            buckets=_SHARES,
            registry=registry,
        )
        self._canary_duration = Histogram(
            "visionops_canary_duration_seconds",
            "Seconds of champion and canary for the images that each answered, without decoding.",
            ["name", "role"],
            buckets=SECONDS,
            registry=registry,
        )
        self._shadow_images = Counter(
            "visionops_shadow_images",
            "Images for a shadow: compared, failed, or dropped because the queue was full.",
            ["name", "outcome"],
            registry=registry,
        )
        self._shadow_agreement = Histogram(
            "visionops_shadow_agreement",
            "Agreement of a shadow's answer with the champion's: F1 of matched boxes, or share of equal classes.",
            ["name"],
            buckets=_SHARES,
            registry=registry,
        )
        self._shadow_duration = Histogram(
            "visionops_shadow_duration_seconds",
            "Seconds of champion and shadow for the same images, without decoding.",
            ["name", "role"],
            buckets=SECONDS,
            registry=registry,
        )

    def watch_modes(self, models: Callable[[], Iterable[tuple[ModelRole, ServedModel]]]) -> None:
        """Show each model's number of parallel images and the speed of its modes at each scrape."""
        self._metrics.before_scrape(lambda: self._show_modes(models()))

    def models(self, models: Iterable[tuple[ModelRole, ServedModel]]) -> None:
        """Show these models as loaded, and no others."""
        now = {(*model.identity.values(), role.value, model.digest) for role, model in models}
        for labels in self._shown - now:
            if self._metrics.is_multiprocess:
                self._model.labels(*labels).set(0)  # a series cannot be removed from the files
            else:
                self._model.remove(*labels)
        for labels in now:
            self._model.labels(*labels).set(1)
        self._shown = now

    def names(self, ready: Collection[bool]) -> None:
        """Show how many of the expected names are ready; ``ready`` has a value per name."""
        self._ready.set(any(ready))
        self._missing.set(len(ready) - sum(ready))

    def watch_draining(self, count: Callable[[], int]) -> None:
        """Show at each scrape how many replaced models requests still hold."""
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
                gauge.labels(*labels).set(0)  # a series cannot be removed from the files
            else:
                gauge.remove(*labels)
        for labels, value in shown.items():
            (self._mode_rate if len(labels) == 3 else self._streams).labels(*labels).set(value)
        self._modes_shown = set(shown)

    def model_image(self, model: ServedModel, outcome: str) -> None:
        """Count one image that a model answered or failed on."""
        self._model_images.labels(model.ref.name, model.ref.version, outcome).inc()

    def load_failed(self, name: str, reason: str) -> None:
        """Count a model that could not be loaded."""
        self._load_failures.labels(name, reason).inc()

    def canary_returned(self, name: str, reason: str) -> None:
        """Count a canary that was withdrawn."""
        self._canary_returns.labels(name, reason).inc()

    def canary_took(self, name: str, role: ModelRole, seconds: float) -> None:
        """Record the seconds of one image that a model answered while a canary had a share."""
        self._canary_duration.labels(name, role.value).observe(seconds)

    def canary_compared(self, name: str, agreement: float) -> None:
        """Count an image of a canary that the champion computed too, with the agreement of both."""
        self.canary_not_compared(name, "compared")
        self._canary_agreement.labels(name).observe(agreement)

    def canary_not_compared(self, name: str, outcome: str) -> None:
        """Count an image of a canary that was not compared; ``outcome`` is "failed" or "dropped"."""
        self._canary_comparisons.labels(name, outcome).inc()

    def shadow(self, name: str, outcome: str) -> None:
        """Count an image for the shadow; ``outcome`` is "compared", "failed" or "dropped"."""
        self._shadow_images.labels(name, outcome).inc()

    def compared(self, name: str, agreement: float, champion_seconds: float, shadow_seconds: float) -> None:
        """Record the agreement and the seconds of an image that champion and shadow computed."""
        self.shadow(name, "compared")
        self._shadow_agreement.labels(name).observe(agreement)
        self._shadow_duration.labels(name, "champion").observe(champion_seconds)
        self._shadow_duration.labels(name, "shadow").observe(shadow_seconds)
