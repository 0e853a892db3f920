"""A column that is compared and not yet judged, and a function that reads columns."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from visionops.monitoring.drift.permutation import Draw
from visionops.monitoring.drift.report import ColumnDrift

__all__ = ["Compared", "read_column"]


class Compared(NamedTuple):
    """Comparison of a column before it is judged."""

    column: ColumnDrift
    draw: Draw | None = None
    """Draws of the statistic under random exchanges, where the p-value is still to be computed; compared with
    ``statistic``."""

    @property
    def is_tested(self) -> bool:
        """Return whether there are enough images."""
        return self.column.p_value is not None or self.draw is not None


def read_column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    """Return a column as one array of ``kind``."""
    column = table.column(name).cast(kind)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], kind)
