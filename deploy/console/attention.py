"""Find what needs a person, from given answers of the database, ZenML and the endpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from visionops.data.findings import counted
from visionops.review.ports import Stats
from visionops.review.states import State
from visionops.runs.states import Run, RunState

__all__ = ["AttentionItem", "newest_run", "of_gate", "of_monitoring", "of_queue", "of_run", "waiting"]

LONG_QUEUE: Final = 100
"""Number of waiting items from which a queue is long."""
OLD: Final = timedelta(days=2)
"""Age of the oldest waiting item from which a queue is old."""
_WAITING: Final = (State.PENDING, State.CLAIMED)


@dataclasses.dataclass(frozen=True, slots=True)
class AttentionItem:
    """Something that a person should look at."""

    text: str
    link: str
    """Path of the page that shows it."""
    is_urgent: bool = False


def waiting(stats: Stats) -> int:
    """Return the number of items that wait for a decision."""
    return sum(stats.states.get(state, 0) for state in _WAITING)


def of_queue(name: str, stats: Stats | None, now: datetime) -> list[AttentionItem]:
    """Return the needs of a queue that is long or old, or in which two reviewers disagree."""
    if stats is None:
        return []
    link, count, found = f"/review?use_case={quote(name)}", waiting(stats), []
    age = now - stats.oldest_pending if stats.oldest_pending else timedelta(0)
    if count >= LONG_QUEUE or age >= OLD:
        verb = "is" if count == 1 else "are"
        days = f", the oldest for {age.days} days" if age >= OLD else ""
        found.append(AttentionItem(f"{name}: {counted(count, 'image')} {verb} waiting for review{days}", link))
    if stats.third:
        images = "1 image waits" if stats.third == 1 else f"{stats.third} images wait"
        found.append(AttentionItem(f"{name}: {images} for a third opinion, because two disagree", link))
    return found


def of_gate(name: str, model: dict[str, Any]) -> AttentionItem | None:
    """Return a need if the gate has refused the newest version, otherwise None."""
    versions: Sequence[dict[str, Any]] = model["versions"]
    if not versions or versions[0]["promoted_by_gate"] is not False or versions[0]["version"] == model["champion"]:
        return None
    version = versions[0]["version"]
    return AttentionItem(
        f"{name}: the gate refused version {version}", f"/models?use_case={quote(name)}&version={version}"
    )


def of_monitoring(name: str, verdict: dict[str, Any] | None) -> AttentionItem | None:
    """Return a need if the last monitoring run requires a person, otherwise None."""
    decision = (verdict or {}).get("decision")
    if not decision or decision["action"] == "nothing":
        return None
    what = "monitoring trains again" if decision["action"] == "retrain" else "monitoring asks for a person"
    return AttentionItem(
        f"{name}: {what}: {decision['sentence']}", f"/monitoring?use_case={quote(name)}", is_urgent=True
    )


def of_run(name: str, runs: Sequence[Run], run: dict[str, Any] | None) -> AttentionItem | None:
    """Return a need if the last run has failed, otherwise None."""
    state, _, link = newest_run(runs, run)
    return (
        AttentionItem(f"{name}: the last run has {state}", link, is_urgent=True)
        if state in {"failed", "lost"}
        else None
    )


def newest_run(runs: Sequence[Run], run: dict[str, Any] | None) -> tuple[str, str, str]:
    """Return state, kind and page of the last run in the queue or in ZenML; three times "" if there is none."""
    ours = runs[0] if runs else None
    begun = (ours.started or ours.queued) if ours else None
    if run and (begun is None or datetime.fromisoformat(run["started"]) >= begun):
        return run["state"], run["pipeline"], f"/training?run={quote(run['name'])}"
    if ours is None:
        return "", "", ""
    state = "running" if ours.state is RunState.RUNNING else ours.state.value
    return state, ours.request.kind.value, f"/training?order={ours.id}"
