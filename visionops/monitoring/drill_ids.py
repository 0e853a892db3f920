"""Identify a drill's traffic in the log by the ids of its requests."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["drill_ids", "drill_rows"]

_DRILL = r"^drill-[0-9a-f]{8}-[0-9]+$"


def drill_ids(number: str) -> str:
    """Return the prefix of a drill's request ids, before a dash and the number of the image.

    Args:
        number: Eight hexadecimal digits, different for each drill.
    """
    return f"drill-{number}"


def drill_rows(records: pa.Table) -> pa.ChunkedArray:
    """Return whether each record was sent by a drill, bool (rows,)."""
    return pc.fill_null(pc.match_substring_regex(records["request_id"], _DRILL), False)
