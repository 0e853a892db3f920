"""Records of batch inference in the prediction log: each answer of a run once, however often it was killed."""

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
    """Remembers what a batch answered. Safe to call from several threads; `record` raises nothing.

    Request ids are ``batch/<run>/<key>#<begin of the SHA-256>``.

    Args:
        run: Place of the run's answers: a run that goes on has the same.
        version: Registered version of the bundle.
        is_resumed: Whether an earlier process may have remembered some already.

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
            with contextlib.suppress(DataError):  # a record twice is better than no answers
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
        """Remember one answer, before it is kept: what is asked again after a kill is known by its id.

        Args:
            path: Of the image, absolute.
            rgb: uint8 (H, W, 3), what the predictor saw.
            prediction: At the thresholds of the bundle's card, as the predictor gives it to ``watch``.
            latency_ms: From the encoded image to the prediction.
        """
        request_id = f"{self._prefix}{key}#{sha256[:8]}"
        if request_id not in self._known:
            told = {"time": datetime.now(UTC), "request_id": request_id, "latency_ms": latency_ms, "image": str(path)}
            source = source_of(self._rules.source_pattern, key)
            values = self._columns.values(rgb, prediction, self._column_failed)
            record = record_of(prediction, *describe_image(rgb), source=source, columns=values)
            self._log.append(self._about | told | record)

    def _column_failed(self, name: str, error: BaseException) -> None:
        """Say so once: the other images may fail, too."""
        if name not in self._failed_columns:
            self._failed_columns.add(name)
            _log.warning("monitoring.columns.%s: fails; its value is missing where it does", name, exc_info=error)
