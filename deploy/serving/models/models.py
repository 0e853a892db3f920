"""Load models, and run their smoke test before they get a request."""

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
    """A loaded bundle with its name and version."""

    ref: ModelRef
    predictor: Predictor
    mode: ModeUse
    record: Record = dataclasses.field(default_factory=Record)
    """Results of its last images."""
    columns: UserColumns = NO_COLUMNS
    """The user's functions that compute additional columns of its log records."""
    since: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    """Time when it was loaded and had passed its smoke test."""

    def predict(
        self,
        image: Image,
        options: Mapping[str, float] | None = None,
        *,
        timing: dict[str, float] | None = None,
        where: str = "image",
        watch: Watch | None = None,
    ) -> Prediction:
        """Predict as `Predictor.predict`, and count failures of the model in its record.

        Raises:
            ImageError: The image cannot be used.
            OptionError: The task has no such option.
            ModelFailed: The engine failed, or returned invalid numbers.
        """
        timing = {} if timing is None else timing
        who = f"{self.ref.name} version {self.ref.version}"
        try:
            prediction = self.predictor.predict(image, options, timing=timing, where=where, watch=watch)
        except VisionOpsError:
            raise
        except Exception as error:
            # An engine may raise anything. The log has the details; the client only learns that the model failed.
            self.record.failed()
            _log.exception("model_failed", extra={"fields": self.identity})
            raise ModelFailed(f"{who}: its engine failed; see the log") from error
        if problem := prediction.problem():
            self.record.failed()
            raise ModelFailed(f"{who}: {problem}")
        self.record.answered(sum(timing[stage] for stage in ("preprocess", "inference", "postprocess")) / 1000)
        return prediction

    def answer(self, prediction: Prediction, timing_ms: Mapping[str, float]) -> dict[str, Any]:
        """Return the answer for one image as a JSON object."""
        return {
            "model": self.identity,
            "image": {"width": prediction.width, "height": prediction.height},
            **prediction.to_dict(),
            "timing_ms": {stage: round(ms, 3) for stage, ms in timing_ms.items()},
        }

    @property
    def identity(self) -> dict[str, str]:
        """Return name, version and alias, which are part of every answer."""
        return {"name": self.ref.name, "version": self.ref.version, "alias": self.ref.alias}

    @property
    def digest(self) -> str:
        """Return the digest of the bundle."""
        return self.predictor.bundle.digest

    def summary(self) -> dict[str, Any]:
        """Return identity and digest."""
        return self.identity | {"digest": self.digest}

    def describe(self) -> dict[str, Any]:
        """Return the description of the model for `/model`."""
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
    """Load models by the settings of this process. All models share its CPU cores and its load measurement."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._load = Load(cores=available_cpus())
        self._memory = MemoryLimit(settings.max_memory_mb)
        self._modes = ModeCompiler(self._memory, self._load)

    def load(
        self, ref: ModelRef, smoke_images: Sequence[bytes] = (), *, beside: ServedModel | None = None
    ) -> ServedModel:
        """Load a bundle, check its digests, compile its first mode and run the smoke test.

        Its other modes are compiled later: see `ready`.

        Args:
            smoke_images: Encoded images of the smoke test; a generated image if there are none.
            beside: Model that answers meanwhile; its mode is the first guess if no mode is stored.

        Raises:
            BundleError: The bundle is missing, corrupt, or does not run on this engine.
            MemoryCap: The model would exceed the memory limit.
            SmokeTestFailed: The model runs but returns invalid answers.
            ConfigError: A function of a user's column cannot be imported, and the server has a prediction log.
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
            # An engine may raise anything; the old model stays, and the caller gets the reason.
            _log.exception("model_failed", extra={"fields": {"version": ref.version}})
            raise SmokeTestFailed(f"{who}: {' '.join(str(error).split()) or type(error).__name__}") from error
        self._memory.check_after(who)
        self._modes.add(predictor, mode, who)
        return ServedModel(ref, predictor, mode, columns=columns)

    def ready(self, waiting: Callable[[], int] = lambda: 0) -> None:
        """Start to compile the other modes of the loaded models in the background.

        Args:
            waiting: Returns the number of waiting images; called often, must not block.
        """
        self._load.waiting = waiting
        self._modes.open()

    def wait(self, seconds: float) -> bool:
        """Wait until all modes are compiled; return whether they are."""
        return self._modes.wait(seconds)

    def close(self) -> None:
        """Stop compiling, and wait for the mode that is being compiled."""
        self._modes.close()

    def _cache(self, bundle: ModelBundle) -> Path | None:
        # One folder per bundle, so that it can be removed together with the bundle.
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
    """Return a PNG with some structure, of a size that needs scaling and padding."""
    ramp = np.add.outer(np.arange(240), np.arange(320)).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(np.dstack([ramp, ramp[::-1], ramp[:, ::-1]])).save(buffer, format="PNG")
    return buffer.getvalue()
