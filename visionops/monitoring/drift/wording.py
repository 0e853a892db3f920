"""Describe columns and numbers of a drift report in words."""

from __future__ import annotations

from visionops.inference.task import ENTROPY_PREFIX, PROBABILITY_PREFIX
from visionops.monitoring.record import COLUMN_PREFIX, FEATURE_PREFIX, task_columns

__all__ = ["format_number", "title_of"]

_WORDS = {
    "count": "the number of boxes of an image",
    "confidences": "mean confidence of an image",
    "labels": "the mix of classes among boxes",
    "embedding": "embeddings",
    "source": "the mix of sources",
}
_BEFORE = {PROBABILITY_PREFIX: "probability of ", ENTROPY_PREFIX: "entropy of ", COLUMN_PREFIX: ""}


def title_of(name: str) -> str:
    """Return the words for a column of the record, or for a class as ``class:NAME``."""
    words = _WORDS | {column.name: column.title for column in task_columns() if column.title}
    for prefix, before in _BEFORE.items():
        if name.startswith(prefix):
            return before + name.removeprefix(prefix)
    return words.get(name, name.removeprefix(FEATURE_PREFIX).removeprefix("class:"))


def format_number(value: float | None) -> str:
    """Return a number with three digits, enough to see a change; "-" for None."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
