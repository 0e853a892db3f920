"""The models of one process: champion, canary and shadow of each name.

A request takes its model once and keeps it until it ends, so a change never mixes two models in one answer. A request
keeps its model alive; a replaced model and its engines are freed when its last request ends.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deploy.http.errors import status_and_code
from deploy.serving.errors import ModelFailed, NoModel, UnknownModel
from deploy.serving.metrics import Metrics
from deploy.serving.models.arms import CanaryComparison, ShadowComparison
from deploy.serving.models.entries import Choice, Entry, RequestKeys
from deploy.serving.models.hold import Hold, HoldFile, instance_name
from deploy.serving.models.memory import Reclaimer
from deploy.serving.models.model_metrics import ModelMetrics
from deploy.serving.models.models import ServedModel
from deploy.serving.models.roles import ModelRole
from deploy.serving.models.shadow import AnsweredImage, Shadows, compute_seconds
from deploy.serving.settings import Placement
from visionops.errors import VisionOpsError
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image, Watch
from visionops.inference.release_report import ReleaseReport
from visionops.inference.release_settings import Strategy

__all__ = ["Models"]

_log = logging.getLogger("visionops.serving")


class Models:
    """Models by name, version and role. Only one caller may change them at a time; any thread may read.

    Args:
        holds: Stores the figures of releases over a restart.
    """

    def __init__(self, metrics: Metrics, holds: HoldFile | None = None) -> None:
        self._holds = holds or HoldFile()
        self._metrics = ModelMetrics(metrics)
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}  # replaced as a whole, so that readers need no lock
        self._default = ""
        self._reclaimer = Reclaimer()
        self._shadows = Shadows()
        self._metrics.watch_draining(lambda: self._reclaimer.waiting)

    def watch_modes(self) -> None:
        """Show the modes of the models at each scrape."""
        self._metrics.watch_modes(self.all)

    # Choosing a model

    def get(self, name: str = "", version: str = "") -> ServedModel:
        """Return the champion of a name, or the model with exactly that version in any role.

        Args:
            name: Name of the model; "" for the default, the first name that was served or expected.

        Raises:
            NoModel: No model is loaded, or the one with that name is not loaded yet.
            UnknownModel: No model has that name or version.
        """
        return self.choose(name, version).served

    def choose(self, name: str = "", version: str = "", keys: RequestKeys = RequestKeys()) -> Choice:  # noqa: B008 - frozen
        """Choose the model that answers a request.

        Args:
            name: Name of the model; "" for the default, the first name that was served or expected.
            version: Version of the model; "" for the champion, or the canary for its share of keys.
            keys: Keys that decide whether the request belongs to the canary's share.

        Raises:
            NoModel: No model is loaded, or the one with that name is not loaded yet.
            UnknownModel: No model has that name or version.
        """
        name, entry = self._entry(name)
        return entry.choose(name, version, keys)

    def predict(
        self,
        choice: Choice,
        image: Image,
        options: Mapping[str, float],
        *,
        timing: dict[str, float],
        where: str = "upload",
        watch: Watch | None = None,
    ) -> tuple[ServedModel, Prediction]:
        """Predict one image. If a canary fails, the champion answers, and the canary is judged.

        Args:
            timing: Filled with milliseconds, as in `Predictor.predict`.
            watch: Called with the pixels and the prediction to record, as in `Predictor.predict`.

        Returns:
            The model that answered, and its prediction.

        Raises:
            ImageError: The image cannot be used.
            OptionError: The task has no such option.
            ModelFailed: The model failed.
        """
        if choice.champion is None:
            prediction = self._counted(choice.served, image, options, timing, where, watch)
            if choice.shadow:
                comparison = ShadowComparison(choice.shadow, self._metrics, choice.hold)
                self._shadows.offer(choice.shadow, AnsweredImage(image, options, prediction, dict(timing)), comparison)
            elif choice.hold:
                seconds = compute_seconds(timing)
                choice.hold.answered("champion", seconds)
                self._metrics.canary_took(choice.served.ref.name, ModelRole.CHAMPION, seconds)
            return choice.served, prediction
        try:
            return self._predict_with_canary(choice, image, options, timing, where, watch)
        except ModelFailed:
            timing.clear()
            return choice.champion, self._counted(choice.champion, image, options, timing, where, watch)
        finally:
            self._judge(choice)

    # Reading

    def all(self) -> list[tuple[ModelRole, ServedModel]]:
        """Return every model with its role, those of the default name first."""
        return [pair for entry in self._entries.values() for pair in entry.roles()]

    def names(self) -> list[str]:
        """Return the names that are served or expected, the default first."""
        return list(self._entries)

    def is_ready(self, name: str) -> bool:
        """Return whether the name has a champion."""
        entry = self._entries.get(name)
        return entry is not None and entry.champion is not None

    def status(self, name: str) -> dict[str, Any]:
        """Return the roles of one name, and its last errors.

        Raises:
            NoModel: No model is loaded.
            UnknownModel: No model has that name.
        """
        name, entry = self._entry(name)
        return {"name": name, "default": name == self._default, **entry.status()}

    def release(self, name: str = "") -> ReleaseReport:
        """Return the report on the candidate and the champion of one name; without a candidate, on the champion only.

        Raises:
            NoModel: No model is loaded, or the one with that name is not loaded yet.
            UnknownModel: No model has that name.
        """
        name, entry = self._entry(name)
        champion = self.get(name)
        if entry.hold:
            return entry.hold.report()
        report = ReleaseReport(instance=instance_name(), name=name, champion=champion.ref.version)
        failure = entry.failure
        if failure and failure["role"] != ModelRole.CHAMPION.value:
            return report.model_copy(update={"candidate": failure["version"], "problem": failure["message"]})
        return report

    # Changing

    def expect(self, name: str) -> None:
        """Register a name that is to be served; it is not ready until a model is placed."""
        with self._lock:
            if name not in self._entries:
                self._replace(name, Entry())

    def check(self, placement: Placement) -> None:
        """Refuse an impossible role before a model is loaded for it.

        Raises:
            RoleConflict: The name has no champion.
        """
        self._entries.get(placement.name, Entry()).check_stands_beside(placement)

    def place(self, model: ServedModel, placement: Placement, *, resume: bool = False) -> None:
        """Put ``model`` into its role for new requests; running requests keep the model that they took.

        Args:
            resume: Continue the hold of the previous process, in which a withdrawn candidate stays withdrawn.

        Raises:
            RoleConflict: The name has no champion, or one for another task.
        """
        name = placement.name
        with self._lock:
            before = self._entries.get(name, Entry())
            entry = before.with_model(model, placement)
            if placement.role is not ModelRole.CHAMPION:
                hold = self._new_hold(entry, model, placement, resume=resume)
                entry = dataclasses.replace(entry, hold=hold)
                if hold.returned[0]:
                    returned = _returned(model, *hold.returned)
                    entry = dataclasses.replace(before, hold=hold, returned=returned)
            self._replace(name, entry)
            self._holds.watch(entry.hold, name)

    def unload(self, name: str, role: ModelRole = ModelRole.CHAMPION) -> None:
        """Remove a model for new requests; removing the champion removes the name with all its roles.

        Raises:
            UnknownModel: The name has no model in that role.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or (role is not ModelRole.CHAMPION and role not in dict(entry.roles())):
                raise UnknownModel(f"model {name!r} has no {role}; available: {', '.join(self._entries) or 'none'}")
            left = entry.without(role)
            self._replace(name, left)
            self._holds.watch(left.hold if left else None, name)

    def most_upload_bytes(self, least: int) -> int:
        """Return the largest upload limit of all models, but at least ``least`` bytes."""
        return max([least, *(model.ref.max_upload_bytes for _, model in self.all())])

    def beside(self, name: str) -> ServedModel | None:
        """Return the model that answers while one of this name loads: its champion, or that of another name."""
        entries = self._entries
        champions = [e.champion for e in (entries.get(name, Entry()), *entries.values()) if e.champion]
        return champions[0] if champions else None

    def close(self) -> None:
        """End the threads of shadows, holds and memory reclaiming."""
        self._shadows.close()
        self._holds.close()
        self._reclaimer.close()

    def load_failed(self, placement: Placement, error: VisionOpsError) -> None:
        """Store the error of a model that could not be loaded; the name's status shows it until a load succeeds."""
        _, code = status_and_code(error)
        self._metrics.load_failed(placement.name, code)
        failure = {
            "version": placement.version,
            "role": placement.role.value,
            "code": code,
            "message": str(error),
            "time": _now(),
        }
        _log.error("model_refused", extra={"fields": {"name": placement.name, **failure}})
        self._reclaimer.reclaim()
        with self._lock:
            if entry := self._entries.get(placement.name):
                self._replace(placement.name, dataclasses.replace(entry, failure=failure))

    # Internals

    def _entry(self, name: str) -> tuple[str, Entry]:
        entries = self._entries
        if not entries:
            raise NoModel("no model is loaded; start the server with --bundle or --models, or deploy one")
        name = name or self._default
        if name not in entries:
            raise UnknownModel(f"model {name!r} is not served here; available: {', '.join(entries)}")
        return name, entries[name]

    def _predict_with_canary(
        self,
        choice: Choice,
        image: Image,
        options: Mapping[str, float],
        timing: dict[str, float],
        where: str,
        watch: Watch | None,
    ) -> tuple[ServedModel, Prediction]:
        """Predict with the canary, and count its result for the hold."""
        assert choice.champion is not None
        try:
            prediction = self._counted(choice.served, image, options, timing, where, watch)
        except ModelFailed:
            if choice.hold:
                choice.hold.failed("candidate")
            raise
        if choice.hold:
            seconds = compute_seconds(timing)
            choice.hold.answered("candidate", seconds)
            self._metrics.canary_took(choice.served.ref.name, ModelRole.CANARY, seconds)
        if choice.bounds.min_agreement is not None:
            answered = AnsweredImage(image, options, prediction, dict(timing))
            self._shadows.offer(choice.champion, answered, CanaryComparison(choice, self._metrics, self._judge))
        return choice.served, prediction

    def _counted(
        self,
        served: ServedModel,
        image: Image,
        options: Mapping[str, float],
        timing: dict[str, float],
        where: str,
        watch: Watch | None,
    ) -> Prediction:
        try:
            prediction = served.predict(image, options, timing=timing, where=where, watch=watch)
        except ModelFailed:
            self._metrics.model_image(served, "failed")
            raise
        self._metrics.model_image(served, "answered")
        return prediction

    def _judge(self, choice: Choice) -> None:
        assert choice.champion is not None
        broken = choice.bounds.breach(choice.served.record, choice.champion.record)
        if broken is None:
            return
        breach, figures = broken
        name = choice.served.ref.name
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.canary is None or entry.canary.model is not choice.served:
                return  # another request saw it first
            message = f"canary version {choice.served.ref.version} {figures}; the champion answers all"
            returned = _returned(choice.served, breach.value, message)
            if choice.hold:
                choice.hold.withdraw(breach.value, message)
            self._replace(name, dataclasses.replace(entry, canary=None, returned=returned))
        self._metrics.canary_returned(name, breach.value)
        _log.warning("canary_returned", extra={"fields": {"name": name, **returned}})

    def _new_hold(self, entry: Entry, model: ServedModel, placement: Placement, *, resume: bool) -> Hold:
        assert entry.champion is not None
        champion, candidate = ((m.ref.version, m.digest) for m in (entry.champion, model))
        strategy = Strategy.SHADOW if placement.role is ModelRole.SHADOW else Strategy.CANARY
        before = self._holds.read(placement.name) if resume else None
        return Hold(placement.name, champion, candidate, strategy, placement.share or 1.0, self._holds, before)

    def _replace(self, name: str, new: Entry | None) -> None:
        """Replace an entry; the caller holds the lock."""
        before = self._entries.get(name, Entry())
        if not self._entries:
            self._default = name
        others = {key: entry for key, entry in self._entries.items() if key != name}
        if new is None:
            self._entries = others
        else:
            self._entries = self._entries | {name: new}  # a name keeps its position
        kept = {id(model) for _, model in (new or Entry()).roles()}
        gone = [model.predictor for _, model in before.roles() if id(model) not in kept]
        if gone:
            self._reclaimer.reclaim(*gone)
        self._metrics.models(self.all())
        self._metrics.names([self.is_ready(name) for name in self.names()])


def _returned(model: ServedModel, breach: str, message: str) -> dict[str, str]:
    return {"version": model.ref.version, "reason": breach, "message": message, "time": _now()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
