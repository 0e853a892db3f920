"""Convert a run to JSON, and read its progress from the end of its log."""

from __future__ import annotations

import re
from typing import Any

from visionops.runs.states import Run

__all__ = ["LOG_TAIL_BYTES", "progress_view", "run_view"]

LOG_TAIL_BYTES = 16_384
_PROGRESS = re.compile(r"^ {2}(?P<step>[^:\n]{1,80}): (?P<done>\d+)/(?P<total>\d+) ?(?P<note>.*)$", re.MULTILINE)
_ANNOUNCED = re.compile(r"^• (.+)$", re.MULTILINE)


def run_view(run: Run) -> dict[str, Any]:
    """Return a run as a JSON object, without its log."""
    run_request = run.request
    times = {name: getattr(run, name) for name in ("queued", "started", "ended", "cancelled_at")}
    return {
        "id": run.id,
        "kind": run_request.kind.value,
        "use_case": run_request.use_case,
        "version": run_request.version or None,
        "reason": run_request.reason,
        "override": run_request.override,
        "actor": run.actor,
        "state": run.state.value,
        **{name: at and at.isoformat() for name, at in times.items()},
        "cancelled_by": run.cancelled_by,
        "place": run.place,
        "exit_code": run.exit_code,
        "message": run.message,
    }


def progress_view(tail: str) -> dict[str, Any]:
    """Return the last step in the log, and its progress."""
    bars = list(_PROGRESS.finditer(tail))
    said = list(_ANNOUNCED.finditer(tail))
    bar = bars[-1] if bars else None
    note = said[-1][1] if said else None
    progress = bar and {"done": int(bar["done"]), "total": int(bar["total"]), "note": bar["note"].strip()}
    return {"step": bar["step"] if bar else note, "announced": note, "progress": progress}
