"""Count records of the prediction log for Prometheus, if there is a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge, Summary

from deploy.serving.metrics import Metrics

__all__ = ["NO_RECORD", "ColumnMetrics", "LogMetrics"]

NO_RECORD = "failed"
"""Outcome of a prediction for which no record could be created."""


class LogMetrics:
    """Counters of one prediction log, in the registry of ``metrics``.

    Args:
        outcomes: Possible outcomes of a record, besides `NO_RECORD`.
        look: Returns the free and the total bytes of the log's disk, or None; it must not block.
    """

    def __init__(self, metrics: Metrics, outcomes: Iterable[str], look: Callable[[], tuple[int, int] | None]) -> None:
        self._metrics = metrics
        records = Counter(
            "visionops_prediction_log_records",
            "Predictions by outcome: written to the log, or the reason why not.",
            ["outcome"],
            registry=metrics.registry,
        )
        self._last_record = Gauge(
            "visionops_prediction_log_last_write_timestamp_seconds",
            "Time of the last record written to the log.",
            registry=metrics.registry,
            multiprocess_mode="mostrecent",
        )
        self._of_outcome = {outcome: records.labels(outcome) for outcome in (*outcomes, NO_RECORD)}
        self._of_image: dict[str, Counter] = {}
        self._watch_disk(look)

    def recorded(self, outcome: str, records: int = 1) -> None:
        """Count predictions by whether they were written into the log."""
        self._of_outcome[outcome].inc(records)
        if outcome == "written":
            self._last_record.set_to_current_time()

    def watch_unshipped(self, count: Callable[[], int]) -> None:
        """Show at each scrape how many closed segments are not in the store yet."""
        gauge = Gauge(
            "visionops_prediction_log_unshipped_segments",
            "Closed segments of the log that are not in the store yet.",
            registry=self._metrics.registry,
            multiprocess_mode="livemax",
        )

        def show() -> None:
            gauge.set(count())

        self._metrics.before_scrape(show)
        show()

    def keep_images(self, outcomes: Iterable[str]) -> None:
        """Add the counter of sampled images; each image ends in one of ``outcomes``."""
        images = Counter(
            "visionops_prediction_log_images",
            "Sampled images by outcome: written, or the reason why not.",
            ["outcome"],
            registry=self._metrics.registry,
        )
        self._of_image = {outcome: images.labels(outcome) for outcome in outcomes}

    def image_kept(self, outcome: str, images: int = 1) -> None:
        """Count sampled images by whether they were written."""
        self._of_image[outcome].inc(images)

    def _watch_disk(self, look: Callable[[], tuple[int, int] | None]) -> None:
        free = Gauge(
            "visionops_prediction_log_disk_free_bytes",
            "Free space on the disk of the prediction log.",
            registry=self._metrics.registry,
            multiprocess_mode="mostrecent",
        )
        size = Gauge(
            "visionops_prediction_log_disk_size_bytes",
            "Size of the disk of the prediction log.",
            registry=self._metrics.registry,
            multiprocess_mode="mostrecent",
        )

        def measure() -> None:
            if found := look():
                free.set(found[0])
                size.set(found[1])

        self._metrics.before_scrape(measure)


class ColumnMetrics:
    """Counters of the user's columns and of sources.

    Column names come from the model cards, and a source is never a label, so no label value comes from a request.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = Summary(
            "visionops_prediction_column_seconds",
            "Time of a user column's function for an image.",
            ["column"],
            registry=metrics.registry,
        )
        self._failures = Counter(
            "visionops_prediction_column_failures",
            "Images without a value in a user's column, because its function failed.",
            ["column"],
            registry=metrics.registry,
        )

        self._bad_sources = Counter(
            "visionops_prediction_bad_sources",
            "Predictions with an invalid X-Source, recorded without a source.",
            registry=metrics.registry,
        )

    def bad_source(self) -> None:
        """Count a prediction with an invalid source."""
        self._bad_sources.inc()

    def took(self, column: str, seconds: float) -> None:
        """Record the seconds that a column's function took for one image."""
        self._seconds.labels(column).observe(seconds)

    def failed(self, column: str) -> None:
        """Count an image on which a column's function failed."""
        self._failures.labels(column).inc()
