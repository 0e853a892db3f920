"""What Prometheus reads of the prediction log: only where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge, Summary

from deploy.serving.metrics import Metrics

__all__ = ["NO_RECORD", "ColumnMetrics", "LogMetrics"]

NO_RECORD = "failed"
"""Outcome of a prediction of which no record could be made."""


class LogMetrics:
    """The counters of one prediction log, shown beside those of ``metrics``.

    Args:
        outcomes: What may become of a record, beside `NO_RECORD`.
        look: Returns the free bytes of the log's disk and all it has, or None; it must not wait.
    """

    def __init__(self, metrics: Metrics, outcomes: Iterable[str], look: Callable[[], tuple[int, int] | None]) -> None:
        self._metrics = metrics
        records = Counter(
            "visionops_prediction_log_records",
            "Predictions that the log has, or that it lost and why.",
            ["outcome"],
            registry=metrics.registry,
        )
        self._last_record = Gauge(
            "visionops_prediction_log_last_write_timestamp_seconds",
            "When the log last had a record written.",
            registry=metrics.registry,
            multiprocess_mode="mostrecent",
        )
        self._of_outcome = {outcome: records.labels(outcome) for outcome in (*outcomes, NO_RECORD)}
        self._of_image: dict[str, Counter] = {}
        self._watch_disk(look)

    def recorded(self, outcome: str, records: int = 1) -> None:
        """Count predictions that were written into the log, or were not."""
        self._of_outcome[outcome].inc(records)
        if outcome == "written":
            self._last_record.set_to_current_time()

    def watch_unshipped(self, count: Callable[[], int]) -> None:
        """Show at each scrape how many closed segments of the log its store does not have yet."""
        gauge = Gauge(
            "visionops_prediction_log_unshipped_segments",
            "Closed segments of the log that its store does not have yet.",
            registry=self._metrics.registry,
            multiprocess_mode="livemax",
        )

        def show() -> None:
            gauge.set(count())

        self._metrics.before_scrape(show)
        show()

    def keep_images(self, outcomes: Iterable[str]) -> None:
        """Count sampled images from now on; each ends in one of ``outcomes``."""
        images = Counter(
            "visionops_prediction_log_images",
            "Sampled images that were kept, or lost and why.",
            ["outcome"],
            registry=self._metrics.registry,
        )
        self._of_image = {outcome: images.labels(outcome) for outcome in outcomes}

    def image_kept(self, outcome: str, images: int = 1) -> None:
        """Count sampled images that were written, or were not."""
        self._of_image[outcome].inc(images)

    def _watch_disk(self, look: Callable[[], tuple[int, int] | None]) -> None:
        free = Gauge(
            "visionops_prediction_log_disk_free_bytes",
            "Room on the disk of the prediction log.",
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
    """Counters of what a record holds beside the task's columns.

    Names of columns come from the cards of the served models, and no source is a label: nothing comes from requests.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = Summary(
            "visionops_prediction_column_seconds",
            "What the function of a user's column took for an image.",
            ["column"],
            registry=metrics.registry,
        )
        self._failures = Counter(
            "visionops_prediction_column_failures",
            "Images that a user's column has no value of, because its function failed.",
            ["column"],
            registry=metrics.registry,
        )

        self._bad_sources = Counter(
            "visionops_prediction_bad_sources",
            "Predictions whose X-Source cannot be one, remembered without it.",
            registry=metrics.registry,
        )

    def bad_source(self) -> None:
        """Count a prediction whose client named what cannot be a source."""
        self._bad_sources.inc()

    def took(self, column: str, seconds: float) -> None:
        """Count what the function of a column took for one image."""
        self._seconds.labels(column).observe(seconds)

    def failed(self, column: str) -> None:
        """Count an image that the function of a column failed on."""
        self._failures.labels(column).inc()
