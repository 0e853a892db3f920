"""What the server remembers of its predictions, where it is told to."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from deploy.serving.metrics import Metrics
from deploy.serving.models.disk import DiskSpace
from deploy.serving.models.log_metrics import NO_RECORD, ColumnMetrics, LogMetrics
from deploy.serving.models.models import ServedModel
from deploy.serving.settings import Settings
from visionops.inference.prediction import Prediction
from visionops.inference.predictor import Image
from visionops.monitoring.images import IMAGE_OUTCOMES, UNSHIPPED, ImageSamples
from visionops.monitoring.sources import is_source, source_of

if TYPE_CHECKING:
    from visionops.monitoring.log import PredictionLog

__all__ = ["PendingRecord", "PredictionCapture", "Recorder", "open_recorder"]

_log = logging.getLogger("visionops.serving")


@dataclasses.dataclass(slots=True)
class PredictionCapture:
    """Keeps what a predictor saw and found in one image, to be given to it as ``watch``."""

    found: tuple[npt.NDArray[np.uint8], Prediction] | None = None
    """Pixels, uint8 (H, W, 3), and the prediction at the thresholds of the bundle's card."""

    def __call__(self, rgb: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        """Keep both."""
        self.found = rgb, prediction


class PendingRecord(NamedTuple):
    """One prediction, not yet kept."""

    record: dict[str, Any]
    image: bytes | None
    """The encoded file, where it is among the sampled ones."""


class Recorder:
    """Makes records of predictions and keeps them. No prediction fails for it. Safe to call from several threads.

    Args:
        log: None: nothing is remembered.
        on_failure: Called when no record could be made of a prediction.
        images: None: records only.
        columns: Counts what the user's own columns take and where they fail, and sources that are none.
    """

    def __init__(
        self,
        log: PredictionLog | None = None,
        on_failure: Callable[[], None] = lambda: None,
        images: ImageSamples | None = None,
        columns: ColumnMetrics | None = None,
    ) -> None:
        self._log = log
        self._on_failure = on_failure
        self._columns = columns
        self._failed_columns: set[tuple[str, str]] = set()
        self._images = images

    def capture(self) -> PredictionCapture | None:
        """Return the callback that captures one image and its prediction, None without a log."""
        return PredictionCapture() if self._log else None

    def record(
        self,
        image: Image,
        seen: PredictionCapture | None,
        request_id: str,
        served: ServedModel,
        latency_ms: float,
        source: str = "",
        arm: str = "",
    ) -> PendingRecord | None:
        """What is remembered of one prediction, not yet kept; None where nothing is.

        It is the prediction at the thresholds of the bundle's card, as the reference is: neither a client's ``conf``
        nor an edited ``serving.confidence`` may look like drift.

        Args:
            image: As the client sent it. Pixels are not kept as a file: there is none.
            latency_ms: From the encoded image to the prediction.
            source: As the client sent it. What cannot be a source is counted and not kept; without one, the rule of the
                bundle reads it off the request's id.
            arm: canary, champion or fallback, while a canary has a share.
        """
        if seen is None or seen.found is None:
            return None
        rgb, prediction = seen.found
        # Not above: with them comes pyarrow, which a server without a log does not wait for.
        from visionops.monitoring.features import describe_image
        from visionops.monitoring.record import record_of

        try:
            record = {
                "time": datetime.now(UTC),
                "request_id": request_id,
                "model": served.ref.name,
                "version": served.ref.version,
                "digest": served.digest,
                "latency_ms": latency_ms,
                **record_of(
                    prediction,
                    *describe_image(rgb),
                    source=self._source(source, served, request_id),
                    columns=self._values(served, rgb, prediction),
                ),
                **({"arm": arm} if arm else {}),
            }
        except Exception:  # noqa: BLE001 - logged in full; whatever it is, the prediction is answered
            _log.exception("record_failed", extra={"fields": {"request_id": request_id}})
            self._on_failure()
            return None
        if self._images is None or not isinstance(image, bytes) or not self._images.wants(request_id):
            return PendingRecord(record, None)
        record["answer_json"] = orjson.dumps(prediction.to_dict()).decode()
        record["image_sha256"] = hashlib.sha256(image).hexdigest()
        return PendingRecord(record, image)

    def _source(self, sent: str, served: ServedModel, request_id: str) -> str:
        if is_source(sent):
            return sent
        if sent and self._columns:
            self._columns.bad_source()
        return source_of(served.predictor.bundle.card.records.source_pattern, request_id)

    def _values(
        self, served: ServedModel, rgb: npt.NDArray[np.uint8], prediction: Prediction
    ) -> Mapping[str, float | str]:
        counted = self._columns
        if counted is None or not served.columns.names:
            return {}

        def failed(name: str, error: BaseException) -> None:
            counted.failed(name)
            # Once for each model: a function that fails on every image must not fill the log of the server.
            if (served.digest, name) not in self._failed_columns:
                self._failed_columns.add((served.digest, name))
                fields = {**served.identity, "column": name}
                _log.error("column_failed", exc_info=error, extra={"fields": fields})

        return served.columns.values(rgb, prediction, failed, counted.took)

    def keep(self, predictions: Iterable[PendingRecord | None]) -> None:
        """Write them. When this returns, a killed process leaves the records behind, unless the log has a problem."""
        for remembered in predictions:
            if self._log and remembered:
                record, image = remembered
                if self._images and image is not None:
                    record["image"] = self._images.keep(image, record["request_id"], record["time"])
                    if record["image"] is None:
                        del record["image_sha256"]
                self._log.append(record)

    @property
    def folder(self) -> Path | None:
        """Of the log; None without one."""
        return self._log.folder if self._log else None

    def status(self) -> dict[str, str]:
        """How the log is, for `/ready`; empty without one."""
        if self._log is None:
            return {}
        return {"prediction_log": self._log.problem or (self._images and self._images.problem) or "ok"}

    def close(self) -> None:
        """Write what waits, and ship it; log how many segments the store goes without, should the folder be lost."""
        if self._images:
            self._images.close()
        if self._log:
            self._log.close()
            if unshipped := self._log.unshipped:
                fields = {"segments": unshipped, "folder": str(self._log.folder), "reason": self._log.problem}
                _log.warning("log_not_shipped", extra={"fields": fields})


def open_recorder(settings: Settings, metrics: Metrics) -> Recorder:
    """Return a recorder over the prediction log of ``settings``, which is counted in ``metrics``."""
    if settings.prediction_log is None:
        return Recorder()
    from visionops.monitoring.log import OUTCOMES, PredictionLog  # pyarrow, which no server needs without a log

    counters = LogMetrics(metrics, OUTCOMES, DiskSpace(settings.prediction_log).look)
    log = PredictionLog(
        settings.prediction_log,
        max_bytes=settings.prediction_log_max_mb * 1_000_000,
        max_age_days=settings.prediction_log_max_days,
        on_outcome=counters.recorded,
        on_image_missing=functools.partial(counters.image_kept, UNSHIPPED),
        store=settings.prediction_log_store,
    )
    # A log may have segments of a server before, which sampled images where this one samples none.
    if settings.prediction_log_images or settings.prediction_log_store:
        counters.keep_images(IMAGE_OUTCOMES)
    if settings.prediction_log_store:
        counters.watch_unshipped(lambda: log.unshipped)
    images = None
    if settings.prediction_log_images:
        images = ImageSamples(
            settings.prediction_log,
            settings.prediction_log_images,
            max_bytes=settings.prediction_log_images_max_mb * 1_000_000,
            max_age_days=settings.prediction_log_max_days,
            on_outcome=counters.image_kept,
        )
    return Recorder(log, functools.partial(counters.recorded, NO_RECORD), images, ColumnMetrics(metrics))
