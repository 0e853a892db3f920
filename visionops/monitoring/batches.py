"""Write records of batch inference to the prediction log: each answer of a run once, even after interruptions."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from visionops.errors import DataError
from visionops.inference.bundle import ModelBundle
from visionops.inference.prediction import Prediction
from visionops.monitoring.columns import UserColumns
from visionops.monitoring.features import describe_image
from visionops.monitoring.log import PredictionLog
from visionops.monitoring.log_reading import read_request_ids
from visionops.monitoring.record import record_of
from visionops.monitoring.sources import source_of

__all__ = ["BatchRecorder"]

_log = logging.getLogger("visionops.monitoring")


class BatchRecorder:
    """Record the answers of a batch. Safe to use from several threads; `record` raises nothing.

    Request ids are ``batch/<run>/<key>#<begin of the SHA-256>``.

    Args:
        run: Place of the run's answers, which is the same for a resumed run.
        version: Registered version of the bundle.
        is_resumed: Whether an earlier process may already have recorded some answers.

    Raises:
        ConfigError: A function of the bundle's own columns cannot be imported.
    """

    def __init__(self, log: PredictionLog, run: str, bundle: ModelBundle, version: str, *, is_resumed: bool) -> None:
        self._log = log
        self._prefix = f"batch/{hashlib.sha256(run.encode()).hexdigest()[:8]}/"
        self._about = {"model": bundle.card.name, "version": version, "digest": bundle.digest}
        self._rules = bundle.card.records
        self._columns = UserColumns.load(self._rules.columns)
        self._failed_columns: set[str] = set()
        self._known: set[str] = set()
        if is_resumed:
            with contextlib.suppress(DataError):  # a duplicate record is better than no answers
                self._known = read_request_ids(log.folder, self._prefix)

    def record(
        self,
        path: Path,
        key: str,
        sha256: str,
        rgb: npt.NDArray[np.uint8],
        prediction: Prediction,
        latency_ms: float,
    ) -> None:
        """Record one answer before it is stored. Its id identifies answers that are repeated after a kill.

        Args:
            path: Absolute path of the image.
            rgb: uint8 (H, W, 3), the predictor's input.
            prediction: Prediction at the thresholds of the bundle's card, as the predictor passes it to ``watch``.
            latency_ms: Time from the encoded image to the prediction, in ms.
        """
        request_id = f"{self._prefix}{key}#{sha256[:8]}"
        if request_id not in self._known:
            facts = {"time": datetime.now(UTC), "request_id": request_id, "latency_ms": latency_ms, "image": str(path)}
            source = source_of(self._rules.source_pattern, key)
            values = self._columns.values(rgb, prediction, self._column_failed)
            record = record_of(prediction, *describe_image(rgb), source=source, columns=values)
            self._log.append(self._about | facts | record)

    def _column_failed(self, name: str, error: BaseException) -> None:
        """Warn once, because the function may fail for every image."""
        if name not in self._failed_columns:
            self._failed_columns.add(name)
            _log.warning(
                "monitoring.columns.%s: the function failed; affected records have no value", name, exc_info=error
            )
