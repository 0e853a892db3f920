"""Expand folded columns of records for drift: class probabilities, and user-defined columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from visionops.inference.bundle import BundleCard
from visionops.inference.task_registry import served_task
from visionops.monitoring.record import COLUMN_PREFIX

__all__ = ["expand_records"]


def expand_records(tables: Sequence[pa.Table], card: BundleCard) -> list[pa.Table]:
    """Return the tables with a column for each derived value of the task and each user-defined column.

    All get the same columns, null where a table has no value. A user-defined column is float32, or text where any of
    the tables has a text in it.

    Args:
        tables: Records of the model of ``card``.
    """
    task = served_task(card.task)
    values = [_read_values(table) for table in tables]
    names = sorted({name for rows in values for row in rows for name in row})
    texts = {name for name in names if any(isinstance(row.get(name), str) for rows in values for row in rows)}
    expanded = []
    for table, rows in zip(tables, values, strict=True):
        found = task.derived_columns(card, table) if "probabilities" in table.column_names else {}
        for name in names:
            own = [row.get(name) for row in rows]
            if name in texts:
                found[COLUMN_PREFIX + name] = pa.array([None if v is None else _text(v) for v in own], pa.string())
            else:
                found[COLUMN_PREFIX + name] = pa.array(own, pa.float32())
        for name, column in found.items():
            table = table.append_column(name, column)  # noqa: PLW2901 - a table is never changed, only replaced
        expanded.append(table)
    return expanded


def _read_values(table: pa.Table) -> list[dict[str, Any]]:
    if "columns" not in table.column_names or table["columns"].null_count == len(table):
        return [{}] * len(table)
    return [_decode(text) for text in table["columns"].to_pylist()]


def _decode(text: str | None) -> dict[str, Any]:
    """Return the values of one record; empty where another program wrote something else there."""
    try:
        values = json.loads(text or "{}")
        return {name: v if isinstance(v, str) else float(v) for name, v in values.items() if v is not None}
    except (ValueError, TypeError, AttributeError, OverflowError):
        return {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}"
