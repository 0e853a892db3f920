"""A fact on how much endpoints were used lately."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from launch.facts_zenml import asked_stack, stamp
from visionops.errors import VisionOpsError

__all__ = ["traffic_of"]


def traffic_of(stack: str | None, files: dict[str, str], hours: float = 1) -> dict[str, Any]:
    """Return, by use case, how many predictions its champion logged in the last hours, and when the latest was.

    Args:
        files: Use case to its file, which says where its predictions are kept.

    Raises:
        StackError: The stack is unknown, or serves nothing.
    """
    now = datetime.now(UTC)
    with asked_stack(stack):
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
            return found | {"problem": "serving.prediction_log is false, so no traffic is known"}
        champion = active_registry().by_alias(name, CHAMPION)
        if champion is None:
            return found
        folder = active_deployer().prediction_log(name)
        log = LogPlace(folder, serving.prediction_log_store, name, champion.version).read(now - timedelta(hours=hours))
    except VisionOpsError as error:
        return found | {"problem": str(error)}
    latest = pc.max(log["time"]).as_py() if log.num_rows else None
    return found | {"images": log.num_rows, "latest": stamp(latest)}
