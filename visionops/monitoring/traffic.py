"""Read the traffic that monitoring compares: the champion's window, and its baseline."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from visionops.inference.bundle import ModelBundle
from visionops.monitoring.drift.expansion import expand_records
from visionops.monitoring.drift.strata import sources_without_reference
from visionops.monitoring.drill_ids import drill_rows
from visionops.monitoring.log_reading import read_log
from visionops.monitoring.reference import read_reference, window_reference
from visionops.monitoring.settings import MonitoringConfig, ReferenceKind

__all__ = ["LogPlace", "Traffic", "read_traffic"]


class LogPlace(NamedTuple):
    """Place of the prediction records of one version."""

    folder: Path | str
    store: str | None
    model: str
    version: str

    def read(self, since: datetime, until: datetime | None = None, *, ignore_drills: bool = False) -> pa.Table:
        """Return the records of a period.

        Args:
            ignore_drills: Whether to leave out those of drills.

        Raises:
            DataError: See `read_log`.
        """
        log = read_log(self.folder, since, until, self.model, self.version, store=self.store)
        return _without(log, drill_rows(log)) if ignore_drills else log


class Traffic(NamedTuple):
    """Tables of records with all columns that drift compares."""

    reference: pa.Table
    window: pa.Table
    history: pa.Table | None
    """Earlier traffic, for sources that the reference does not have; None where it has all."""
    drills: int
    """Number of images of drills that were left out of the window."""


def read_traffic(bundle: ModelBundle, place: LogPlace, monitoring: MonitoringConfig, now: datetime) -> Traffic:
    """Read the traffic that the settings compare.

    A drill is never part of a source's own history. In the window, and in a sliding reference, it counts unless
    ``ignore_drills`` is set.

    Args:
        bundle: Bundle of the version of ``place``, with its reference.
        now: End of the window; aware.

    Raises:
        BundleError: It has no reference.
        DataError: The log cannot be read.
    """
    begin = now - timedelta(hours=monitoring.window_hours)
    slides = monitoring.reference is ReferenceKind.WINDOW
    log = place.read(begin - timedelta(hours=monitoring.reference_hours if slides else 0))
    is_drill = drill_rows(log)
    in_window = pc.greater_equal(log["time"], pa.scalar(begin, log.schema.field("time").type))
    drills = 0
    if monitoring.ignore_drills:
        drills = int(pc.sum(pc.and_(is_drill, in_window)).as_py() or 0)
        log, in_window = _without(log, is_drill), _without(in_window, is_drill)
    window = log.filter(in_window)
    history = None
    if slides:
        reference = window_reference(log, begin, monitoring.reference_hours, place.version)
    else:
        reference = read_reference(bundle)
        if sources_without_reference(reference, window, monitoring.drift):
            history = place.read(begin - timedelta(hours=monitoring.reference_hours), begin, ignore_drills=True)
    tables = [reference, window] if history is None else [reference, window, history]
    expanded = expand_records(tables, bundle.card)
    return Traffic(expanded[0], expanded[1], expanded[2] if len(expanded) > 2 else None, drills)


def _without(rows: Any, is_drill: pa.ChunkedArray) -> Any:
    return rows.filter(pc.invert(is_drill))
