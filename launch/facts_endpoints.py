"""Count the recent predictions of endpoints."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from launch.facts_zenml import stack_client, stamp
from visionops.errors import VisionOpsError

__all__ = ["traffic_of"]


def traffic_of(stack: str | None, files: dict[str, str], hours: float = 1) -> dict[str, Any]:
    """Return the number of predictions that each champion logged in the last hours, and the time of the latest.

    Args:
        files: File of each use case, which names its prediction log.

    Raises:
        StackError: The stack is unknown, or serves nothing.
    """
    now = datetime.now(UTC)
    with stack_client(stack):
        return {name: _traffic(name, Path(path), now, hours) for name, path in files.items()}


def _traffic(name: str, file: Path, now: datetime, hours: float) -> dict[str, Any]:
    import pyarrow.compute as pc

    from steps.context import active_deployer, active_registry
    from visionops.config import load_config
    from visionops.monitoring.traffic import LogPlace
    from visionops.registry import CHAMPION

    found: dict[str, Any] = {"images": None, "latest": None, "problem": ""}
    try:
        serving = load_config(file).serving
        if not serving.prediction_log:
            return found | {"problem": "serving.prediction_log is false, so traffic is not logged"}
        champion = active_registry().by_alias(name, CHAMPION)
        if champion is None:
            return found
        folder = active_deployer().prediction_log(name)
        log = LogPlace(folder, serving.prediction_log_store, name, champion.version).read(now - timedelta(hours=hours))
    except VisionOpsError as error:
        return found | {"problem": str(error)}
    latest = pc.max(log["time"]).as_py() if log.num_rows else None
    return found | {"images": log.num_rows, "latest": stamp(latest)}
