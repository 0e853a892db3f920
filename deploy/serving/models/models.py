"""A model that answers: loaded and proven before it gets a request."""

from __future__ import annotations

import dataclasses
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from deploy.serving.errors import ModelFailed, SmokeTestFailed
from deploy.serving.models.memory import MemoryLimit
from deploy.serving.models.modes import ModeCompiler, ModeUse
from deploy.serving.models.roles import Record
from deploy.serving.settings import Settings
from visionops.errors import BundleError, ImageError, VisionOpsError
from visionops.inference.bundle import ModelBundle, Thresholds
from visionops.inference.engines import available_cpus
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image, Load, Predictor, Watch
from visionops.inference.server_options import ModelRef
from visionops.inference.task_registry import served_task
from visionops.monitoring.columns import NO_COLUMNS, UserColumns

__all__ = ["Loader", "ServedModel"]

_log = logging.getLogger("visionops.serving")


@dataclasses.dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded bundle and the name under which it answers."""

    ref: ModelRef
    predictor: Predictor
    mode: ModeUse
    record: Record = dataclasses.field(default_factory=Record)
    """How it did on its last images."""
    columns: UserColumns = NO_COLUMNS
    """Functions of the user's that each of its records has a value of."""
    since: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    """When it was loaded and proven."""

    def predict(
        self,
        image: Image,
        options: Mapping[str, float] | None = None,
        *,
        timing: dict[str, float] | None = None,
        where: str = "image",
        watch: Watch | None = None,
    ) -> Prediction:
        """As `Predictor.predict`; what the model is to blame for stands in its record and is told apart.

        Raises:
            ImageError: The image cannot be used.
            OptionError: The task knows no such option.
            ModelFailed: The engine failed, or its numbers are no answer.
        """
        timing = {} if timing is None else timing
        who = f"{self.ref.name} version {self.ref.version}"
        try:
            prediction = self.predictor.predict(image, options, timing=timing, where=where, watch=watch)
        except VisionOpsError:
            raise
        except Exception as error:
            # An engine fails in ways of its own; the log has them, the client needs to know whose fault it is.
            self.record.failed()
            _log.exception("model_failed", extra={"fields": self.identity})
            raise ModelFailed(f"{who}: its engine failed; see the log") from error
        if problem := prediction.problem():
            self.record.failed()
            raise ModelFailed(f"{who}: {problem}")
        self.record.answered(sum(timing[stage] for stage in ("preprocess", "inference", "postprocess")) / 1000)
        return prediction

    def answer(self, prediction: Prediction, timing_ms: Mapping[str, float]) -> dict[str, Any]:
        """What is answered for one image."""
        return {
            "model": self.identity,
            "image": {"width": prediction.width, "height": prediction.height},
            **prediction.to_dict(),
            "timing_ms": {stage: round(ms, 3) for stage, ms in timing_ms.items()},
        }

    @property
    def identity(self) -> dict[str, str]:
        """Name, version and alias, as every answer carries them."""
        return {"name": self.ref.name, "version": self.ref.version, "alias": self.ref.alias}

    @property
    def digest(self) -> str:
        """Of the bundle."""
        return self.predictor.bundle.digest

    def summary(self) -> dict[str, Any]:
        """Identity and digest."""
        return self.identity | {"digest": self.digest}

    def describe(self) -> dict[str, Any]:
        """What `/model` says."""
        card = self.predictor.bundle.card
        return self.identity | {
            "task": card.task,
            "architecture": card.architecture,
            "classes": list(card.class_names),
            **served_task(card.task).describe(card, self.predictor.thresholds),
            "metrics": card.metrics,
            "data_fingerprint": card.data_fingerprint,
            "preprocessing": card.preprocessing.model_dump(mode="json"),
            "precision": card.precision.value,
            "engine": self.ref.engine.value,
            "mode": self.mode.status(self.predictor).model_dump(),
            "digest": self.digest,
            "max_upload_bytes": self.ref.max_upload_bytes,
        }


class Loader:
    """Loads models as the settings of this process say. They share its cores, and so its measure of load."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._load = Load(cores=available_cpus())
        self._memory = MemoryLimit(settings.max_memory_mb)
        self._modes = ModeCompiler(self._memory, self._load)

    def load(
        self, ref: ModelRef, smoke_images: Sequence[bytes] = (), *, beside: ServedModel | None = None
    ) -> ServedModel:
        """Load a bundle, check its digests, compile its first mode and make it answer.

        Its other modes are compiled later: see `ready`.

        Args:
            smoke_images: Encoded images it must answer; a made-up one when there are none.
            beside: What answers meanwhile: its mode is the first guess where none is stored.

        Raises:
            BundleError: It is missing, corrupt, or does not run on this engine.
            MemoryCap: There is no room for it.
            SmokeTestFailed: It runs and does not answer as a model of its task should.
            ConfigError: A function of its own columns cannot be imported here, and predictions are to be remembered.
        """
        bundle = ModelBundle.load(ref.bundle)
        own = bundle.card.thresholds
        thresholds = Thresholds(
            confidence=own.confidence if ref.confidence is None else ref.confidence,
            iou=own.iou if ref.iou is None else ref.iou,
            max_detections=own.max_detections,
        )
        who = f"{ref.name} version {ref.version}"
        rules = bundle.card.records
        columns = UserColumns.load(rules.columns) if rules.columns and self._settings.prediction_log else NO_COLUMNS
        self._memory.check_before(bundle, who)
        try:
            mode = self._mode(bundle, ref, beside)
            predictor = Predictor(
                bundle,
                ref.engine,
                device=ref.device,
                thresholds=thresholds,
                threads=mode.threads,
                streams=mode.first,
                tuner=mode.tuner,
                load=self._load,
                cache=self._cache(bundle),
                max_pixels=self._settings.max_pixels,
            )
            for number, image in enumerate(smoke_images or (_made_up_image(),), start=1):
                _smoke_test(predictor, image, f"{who}: smoke image {number}")
        except VisionOpsError:
            raise
        except Exception as error:
            # An engine may fail in ways of its own; whatever it is, the old model stays and the caller hears why.
            _log.exception("model_failed", extra={"fields": {"version": ref.version}})
            raise SmokeTestFailed(f"{who}: {' '.join(str(error).split()) or type(error).__name__}") from error
        self._memory.check_after(who)
        self._modes.add(predictor, mode, who)
        return ServedModel(ref, predictor, mode, columns=columns)

    def ready(self, waiting: Callable[[], int] = lambda: 0) -> None:
        """Compile the other modes of the loaded models from now on, in the background.

        Args:
            waiting: Returns how many images wait for a thread; called often, must not wait.
        """
        self._load.waiting = waiting
        self._modes.open()

    def wait(self, seconds: float) -> bool:
        """Wait until all modes are compiled; return whether they are."""
        return self._modes.wait(seconds)

    def close(self) -> None:
        """Compile no more, and wait for what is being compiled."""
        self._modes.close()

    def _cache(self, bundle: ModelBundle) -> Path | None:
        # A folder for each bundle, so that whoever removes old bundles knows what to remove here.
        return self._settings.cache / bundle.digest[:12] if self._settings.cache else None

    def _mode(self, bundle: ModelBundle, ref: ModelRef, beside: ServedModel | None) -> ModeUse:
        same = beside is not None and (beside.ref.engine, beside.ref.device) == (ref.engine, ref.device)
        before = beside.mode if beside and same else None
        return ModeUse(bundle, ref, self._load, self._settings.streams, before, self._cache(bundle))


def _smoke_test(predictor: Predictor, image: bytes, where: str) -> None:
    try:
        predictor.prove(image, where)
    except (BundleError, ImageError) as error:
        raise SmokeTestFailed(str(error)) from error


def _made_up_image() -> bytes:
    """A PNG with some structure, of a size that needs scaling and padding."""
    ramp = np.add.outer(np.arange(240), np.arange(320)).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])).save(buffer, format="PNG")
    return buffer.getvalue()
