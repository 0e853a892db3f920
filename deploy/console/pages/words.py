"""Format times, figures and states for pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from visionops.review.states import Status, Verdict

__all__ = ["VERDICTS", "age", "ago", "clock", "duration", "figure", "interval", "state_in_words"]

VERDICTS: Final = {Verdict.CONFIRM: "confirmed", Verdict.CORRECT: "corrected", Verdict.REJECT: "rejected"}

_NOTHING = "-"
_UNITS = ((86_400, "day"), (3_600, "h"), (60, "min"))


def age(moment: str | datetime, now: datetime) -> str:
    """Return how old something is, in its largest unit.

    Args:
        moment: Time-zone aware, or an ISO 8601 text with a time zone.
    """
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return duration(max(0.0, (now - when).total_seconds()))


def ago(moment: str | datetime | None, now: datetime) -> str:
    """Return how long ago something was; a dash for None."""
    return _NOTHING if moment is None else f"{age(moment, now)} ago"


def duration(seconds: float | None) -> str:
    """Return a duration in its largest unit; a dash for None."""
    if seconds is None:
        return _NOTHING
    for size, unit in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{int(seconds)} s"


def clock(moment: str | datetime | None) -> str:
    """Return a time to the minute, UTC; a dash for None."""
    if moment is None:
        return _NOTHING
    when = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def figure(value: Any) -> str:
    """Return a figure with three decimals, a whole number unchanged, and a dash for None."""
    if value is None:
        return _NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def state_in_words(status: Status) -> str:
    """Return the state of an item as text, with its decision."""
    return status.state.value + (f", {VERDICTS[status.verdict]}" if status.verdict else "")


def interval(bounds: Any) -> str:
    """Return a confidence interval; "" if there is none."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds and None not in bounds else ""
