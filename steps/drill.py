"""Send changed test images to an endpoint."""

from __future__ import annotations

from typing import Annotated

from zenml import log_metadata, step
from zenml.types import HTMLString

from steps.context import live_endpoint
from steps.progress import announce, progress
from visionops.data.dataset import Split
from visionops.data.shards import StoredDataset
from visionops.inference.settings import UseCase
from visionops.monitoring.drill import Drill, DrillResult, render_drill_html, run_drill

__all__ = ["send_drill"]


# Not cached, because each run must send the images.
@step(enable_cache=False)
def send_drill(
    prepared: StoredDataset, use_case: UseCase, drill: Drill
) -> tuple[Annotated[DrillResult, "drill"], Annotated[HTMLString, "drill_report"]]:
    """Send changed test images to the live endpoint."""
    dataset = prepared.only(Split.TEST)
    endpoint = live_endpoint(use_case.name)
    announce(f"sending {drill.images} images to {endpoint.url}")
    with progress("drill", drill.images) as report:
        result = run_drill(endpoint, dataset, drill, report)
    log_metadata(
        {
            "kind": drill.kind.value,
            "severity": drill.severity,
            "images": drill.images,
            "answered": result.answered,
            "p50_ms": result.p50_ms,
            "request_ids": result.request_ids,
        }
    )
    announce(result.explain())
    return result, HTMLString(render_drill_html(result, dataset))
