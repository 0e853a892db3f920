"""Record predictions in the prediction log, if one is configured."""

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
    """Callback for a predictor's ``watch`` that stores the pixels and the prediction of one image."""

    found: tuple[npt.NDArray[np.uint8], Prediction] | None = None
    """Pixels, uint8 (H, W, 3), and the prediction at the thresholds of the bundle's card."""

    def __call__(self, rgb: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        """Store both."""
        self.found = rgb, prediction


class PendingRecord(NamedTuple):
    """Record of one prediction that is not written yet."""

    record: dict[str, Any]
    image: bytes | None
    """Encoded image file, if the image is sampled."""


class Recorder:
    """Create and write records of predictions. Its errors never fail a prediction. Safe to call from several threads.

    Args:
        log: Prediction log; None to record nothing.
        on_failure: Called when no record of a prediction could be created.
        images: Store of sampled images; None to write records only.
        columns: Counts the time and failures of the user's columns, and invalid sources.
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
        """Return a callback that captures one image and its prediction; None without a log."""
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
        """Return the record of one prediction, without writing it; None if nothing is recorded.

        Like the reference, the record has the prediction at the thresholds of the bundle's card, so that neither a
        client's ``conf`` nor an edited ``serving.confidence`` looks like drift.

        Args:
            image: The image as the client sent it. Only an encoded file can be sampled, not pixels.
            latency_ms: Milliseconds from the encoded image to the prediction.
            source: The source as the client sent it. An invalid source is counted and dropped; without a source, the
                bundle's rule derives it from the request id.
            arm: canary, champion or fallback, while a canary has a share.
        """
        if seen is None or seen.found is None:
            return None
        rgb, prediction = seen.found
        # Imported here, because they import pyarrow, which a server without a log does not need.
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
        except Exception:  # noqa: BLE001 - logged in full; the prediction is still answered
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
            # Logged once per model: a function that fails on every image must not fill the server's log.
            if (served.digest, name) not in self._failed_columns:
                self._failed_columns.add((served.digest, name))
                fields = {**served.identity, "column": name}
                _log.error("column_failed", exc_info=error, extra={"fields": fields})

        return served.columns.values(rgb, prediction, failed, counted.took)

    def keep(self, predictions: Iterable[PendingRecord | None]) -> None:
        """Write records. Afterwards they survive a kill of the process, unless the log has a problem."""
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
        """Return the folder of the log; None without a log."""
        return self._log.folder if self._log else None

    def status(self) -> dict[str, str]:
        """Return the state of the log, for `/ready`; empty without a log."""
        if self._log is None:
            return {}
        return {"prediction_log": self._log.problem or (self._images and self._images.problem) or "ok"}

    def close(self) -> None:
        """Write and upload pending records, and log how many segments could not be uploaded to the store."""
        if self._images:
            self._images.close()
        if self._log:
            self._log.close()
            if unshipped := self._log.unshipped:
                fields = {"segments": unshipped, "folder": str(self._log.folder), "reason": self._log.problem}
                _log.warning("log_not_shipped", extra={"fields": fields})


def open_recorder(settings: Settings, metrics: Metrics) -> Recorder:
    """Return a recorder over the prediction log of ``settings``, which counts in ``metrics``."""
    if settings.prediction_log is None:
        return Recorder()
    from visionops.monitoring.log import OUTCOMES, PredictionLog  # imports pyarrow, needed only with a log

    counters = LogMetrics(metrics, OUTCOMES, DiskSpace(settings.prediction_log).look)
    log = PredictionLog(
        settings.prediction_log,
        max_bytes=settings.prediction_log_max_mb * 1_000_000,
        max_age_days=settings.prediction_log_max_days,
        on_outcome=counters.recorded,
        on_image_missing=functools.partial(counters.image_kept, UNSHIPPED),
        store=settings.prediction_log_store,
    )
    # The log may have segments of an earlier server that sampled images, even if this one does not.
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
