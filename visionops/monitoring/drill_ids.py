"""How the log tells a drill's traffic from the line's: by the ids of its requests, as it always has."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["drill_ids", "drill_rows"]

_DRILL = r"^drill-[0-9a-f]{8}-[0-9]+$"


def drill_ids(number: str) -> str:
    """Return what the ids of a drill's requests begin with, before a dash and the place of the image.

    Args:
        number: Eight hexadecimal digits, other ones for each drill.
    """
    return f"drill-{number}"


def drill_rows(records: pa.Table) -> pa.ChunkedArray:
    """Return for each record whether a drill sent it, bool (rows,)."""
    return pc.fill_null(pc.match_substring_regex(records["request_id"], _DRILL), False)
