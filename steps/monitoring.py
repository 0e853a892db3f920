"""From what an endpoint was asked to what changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from steps.context import active_deployer, champion_bundle
from steps.progress import announce
from visionops.config import Config
from visionops.monitoring.drift import DriftReport, detect_drift, render_drift_html
from visionops.monitoring.log import read_log
from visionops.monitoring.reference import read_reference

__all__ = ["compare_traffic"]


# Not cached: there are new predictions each time.
@step(enable_cache=False)
def compare_traffic(config: Config) -> tuple[Annotated[DriftReport, "drift"], Annotated[HTMLString, "drift_report"]]:
    """Compare what the champion was asked lately with what it was validated on."""
    log = active_deployer().prediction_log(config.name)
    since = datetime.now(UTC) - timedelta(hours=config.monitoring.window_hours)
    with champion_bundle(config.name) as (champion, bundle):
        reference = read_reference(bundle)
    traffic = read_log(log, since=since, model=config.name, version=champion.version)
    report = detect_drift(reference, traffic, config.monitoring.drift)
    log_metadata(
        {
            "version": champion.version,
            "images": traffic.num_rows,
            "drifted": report.drifted,
            "share": report.share,
            "embedding_drifted": report.embedding_drifted,
        }
    )
    announce(report.explain())
    return report, HTMLString(render_drift_html(report))
