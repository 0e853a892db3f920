"""What monitoring compares: the window of the champion's traffic, and what it is compared with."""

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
    """Where the predictions of one version are remembered."""

    folder: Path | str
    store: str | None
    model: str
    version: str

    def read(self, since: datetime, until: datetime | None = None, *, ignore_drills: bool = False) -> pa.Table:
        """Return its records of a time.

        Args:
            ignore_drills: Leave those of drills out.

        Raises:
            DataError: As `read_log`.
        """
        log = read_log(self.folder, since, until, self.model, self.version, store=self.store)
        return _without(log, drill_rows(log)) if ignore_drills else log


class Traffic(NamedTuple):
    """Tables of records with all columns that drift compares."""

    reference: pa.Table
    window: pa.Table
    history: pa.Table | None
    """Earlier traffic, for sources that the reference does not know; None where it knows all."""
    drills: int
    """Images of drills that were left out of the window."""


def read_traffic(bundle: ModelBundle, place: LogPlace, monitoring: MonitoringConfig, now: datetime) -> Traffic:
    """Read what the settings compare.

    A drill is never what others are compared with as a source's own history. In the window, and in a sliding reference,
    it counts unless ``ignore_drills`` says otherwise.

    Args:
        bundle: Of the version of ``place``, with its reference.
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
