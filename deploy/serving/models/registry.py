"""The models of one process: who answers under which name, who stands in and who looks on.

A request takes its model once and keeps it to its end, so a change never mixes two models in one answer. Whoever holds
a model keeps it alive; when the last request of a replaced one ends, its engines are freed with it.
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
from deploy.serving.models.shadow import Answered, Shadows, compute_seconds
from deploy.serving.settings import Placement
from visionops.errors import VisionOpsError
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image, Watch
from visionops.inference.release_report import ReleaseReport
from visionops.inference.release_settings import Strategy

__all__ = ["Models"]

_log = logging.getLogger("visionops.serving")


class Models:
    """Models by name, version and role. Changed by one caller at a time; read from any thread.

    Args:
        holds: Where the figures of releases outlive this process.
    """

    def __init__(self, metrics: Metrics, holds: HoldFile | None = None) -> None:
        self._holds = holds or HoldFile()
        self._metrics = ModelMetrics(metrics)
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}  # replaced whole, so that a reader needs no lock
        self._default = ""
        self._reclaimer = Reclaimer()
        self._shadows = Shadows()
        self._metrics.watch_draining(lambda: self._reclaimer.waiting)

    def watch_modes(self) -> None:
        """Show the modes of the models at each scrape."""
        self._metrics.watch_modes(self.all)

    # Who answers

    def get(self, name: str = "", version: str = "") -> ServedModel:
        """The champion of a name, or the model of exactly that version in whatever role.

        Args:
            name: "": the default, which is the first that was served or expected.

        Raises:
            NoModel: There is none at all, or that name's has not been loaded.
            UnknownModel: There is none of that name or version.
        """
        return self.choose(name, version).served

    def choose(self, name: str = "", version: str = "", keys: RequestKeys = RequestKeys()) -> Choice:  # noqa: B008 - frozen
        """Who answers a request.

        Args:
            name: "": the default, which is the first that was served or expected.
            version: "": the champion, or the canary for its share of keys.
            keys: What the share is cut by.

        Raises:
            NoModel: There is none at all, or that name's has not been loaded.
            UnknownModel: There is none of that name or version.
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
        """Answer for one image. Where a canary fails, the champion answers, and the canary is judged.

        Args:
            timing: Receives milliseconds, as of `Predictor.predict`.
            watch: Gets the pixels and what is to be recorded, as of `Predictor.predict`.

        Returns:
            Who answered, and what.

        Raises:
            ImageError: The image cannot be used.
            OptionError: The task knows no such option.
            ModelFailed: The model has no answer.
        """
        if choice.champion is None:
            prediction = self._counted(choice.served, image, options, timing, where, watch)
            if choice.shadow:
                comparison = ShadowComparison(choice.shadow, self._metrics, choice.hold)
                self._shadows.offer(choice.shadow, Answered(image, options, prediction, dict(timing)), comparison)
            elif choice.hold:
                seconds = compute_seconds(timing)
                choice.hold.answered("champion", seconds)
                self._metrics.canary_took(choice.served.ref.name, ModelRole.CHAMPION, seconds)
            return choice.served, prediction
        try:
            return self._ask_canary(choice, image, options, timing, where, watch)
        except ModelFailed:
            timing.clear()
            return choice.champion, self._counted(choice.champion, image, options, timing, where, watch)
        finally:
            self._judge(choice)

    # What is served

    def all(self) -> list[tuple[ModelRole, ServedModel]]:
        """Every model with its role, the default's name first."""
        return [pair for entry in self._entries.values() for pair in entry.roles()]

    def names(self) -> list[str]:
        """The names that are served, or should be; the default first."""
        return list(self._entries)

    def is_ready(self, name: str) -> bool:
        """Whether the name has a champion."""
        entry = self._entries.get(name)
        return entry is not None and entry.champion is not None

    def status(self, name: str) -> dict[str, Any]:
        """The roles of one name, and what went wrong last.

        Raises:
            NoModel: There is none at all.
            UnknownModel: There is none of that name.
        """
        name, entry = self._entry(name)
        return {"name": name, "default": name == self._default, **entry.status()}

    def release(self, name: str = "") -> ReleaseReport:
        """How the candidate of one name does beside its champion; without a candidate, who is champion.

        Raises:
            NoModel: There is none at all, or that name's has not been loaded.
            UnknownModel: There is none of that name.
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

    # What changes

    def expect(self, name: str) -> None:
        """A model of this name is to be served: until it is, the name is known and not ready."""
        with self._lock:
            if name not in self._entries:
                self._replace(name, Entry())

    def check(self, placement: Placement) -> None:
        """Refuse a role that cannot be, before a model is loaded for it.

        Raises:
            RoleConflict: There is no champion to stand beside.
        """
        self._entries.get(placement.name, Entry()).check_stands_beside(placement)

    def place(self, model: ServedModel, placement: Placement, *, resume: bool = False) -> None:
        """New requests find ``model`` in its role; requests in flight end on the model they took.

        Args:
            resume: Go on with the hold of the process before this one: a candidate that was sent away stays away.

        Raises:
            RoleConflict: There is no champion to stand beside, or it answers another task.
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
        """No new request finds that model; without a champion the name is gone, and all its roles with it.

        Raises:
            UnknownModel: There is none.
        """
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or (role is not ModelRole.CHAMPION and role not in dict(entry.roles())):
                raise UnknownModel(f"model {name!r} has no {role}; there are: {', '.join(self._entries) or 'none'}")
            left = entry.without(role)
            self._replace(name, left)
            self._holds.watch(left.hold if left else None, name)

    def most_upload_bytes(self, least: int) -> int:
        """Return the largest upload that any model takes, ``least`` where that is more."""
        return max([least, *(model.ref.max_upload_bytes for _, model in self.all())])

    def beside(self, name: str) -> ServedModel | None:
        """What answers while a model of this name loads: its champion, else any other's."""
        entries = self._entries
        champions = [e.champion for e in (entries.get(name, Entry()), *entries.values()) if e.champion]
        return champions[0] if champions else None

    def close(self) -> None:
        """Let the threads of shadows, holds and of reclaiming end."""
        self._shadows.close()
        self._holds.close()
        self._reclaimer.close()

    def load_failed(self, placement: Placement, error: VisionOpsError) -> None:
        """Remember why a model could not be loaded: the name's status shows it until one can."""
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

    # Inside

    def _entry(self, name: str) -> tuple[str, Entry]:
        entries = self._entries
        if not entries:
            raise NoModel("no model is loaded; start the server with --bundle or --models, or deploy one")
        name = name or self._default
        if name not in entries:
            raise UnknownModel(f"model {name!r} is not served here; there are: {', '.join(entries)}")
        return name, entries[name]

    def _ask_canary(
        self,
        choice: Choice,
        image: Image,
        options: Mapping[str, float],
        timing: dict[str, float],
        where: str,
        watch: Watch | None,
    ) -> tuple[ServedModel, Prediction]:
        """Let the canary answer, and count for the hold how it did."""
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
            answered = Answered(image, options, prediction, dict(timing))
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
                choice.hold.send_away(breach.value, message)
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
        """Under the lock."""
        before = self._entries.get(name, Entry())
        if not self._entries:
            self._default = name
        others = {key: entry for key, entry in self._entries.items() if key != name}
        if new is None:
            self._entries = others
        else:
            self._entries = self._entries | {name: new}  # a name keeps its place
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
