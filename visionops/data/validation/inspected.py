"""Store the inspections of one shard as a table, until all images are judged together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.dataset import Dataset
from visionops.data.duplicates import LOOK_SIZE
from visionops.data.findings import Code
from visionops.data.settings import ValidationPolicy
from visionops.data.validation.inspection import Inspection, inspect_images
from visionops.errors import DataError
from visionops.inference.image import ImageHeader

__all__ = ["InspectedImages", "inspect_shard", "join_shards"]

_ROWS = pa.schema(
    [
        ("key", pa.string()),
        ("problem", pa.string()),
        ("message", pa.string()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("brightness", pa.float64()),
        ("peak", pa.int32()),
        ("look", pa.binary(LOOK_SIZE * LOOK_SIZE)),
        ("format", pa.string()),  # this and the columns below: null if unusable
        ("mode", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("orientation", pa.int8()),
        ("frames", pa.int32()),
        ("bits", pa.int8()),
    ]
)


@dataclasses.dataclass(frozen=True)
class InspectedImages:
    """Results of decoding the images of one shard, stored until all images are judged together."""

    rows: pa.Table
    """One row per image; see `_ROWS`."""

    def refuse(self, reasons: Mapping[str, str]) -> InspectedImages:
        """Mark images as unusable, each with a finding of code ``own_check``; leave unusable ones unchanged.

        Args:
            reasons: Maps the key of an image to what is wrong and how to fix it, without the place.
        """
        if not reasons:
            return self
        rows = [_refused(row, reasons[row["key"]]) if row["key"] in reasons else row for row in self.rows.to_pylist()]
        return InspectedImages(pa.Table.from_pylist(rows, schema=_ROWS))

    def save(self, folder: Path) -> None:
        """Write ``inspected.parquet`` into ``folder``."""
        pq.write_table(self.rows, folder / "inspected.parquet")

    @classmethod
    def load(cls, folder: Path) -> InspectedImages:
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing or was not written by `save`.
        """
        try:
            return cls(pq.read_table(folder / "inspected.parquet", schema=_ROWS))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{folder}: no saved inspections ({error}); run again with --no-cache") from error


def inspect_shard(
    dataset: Dataset, policy: ValidationPolicy, progress: Callable[[int], None] | None = None
) -> InspectedImages:
    """Run `inspect_images` on a part of a data set, for `validate_inspected`."""
    rows = []
    for key, seen in zip(dataset.column("key"), inspect_images(dataset, policy.max_pixels, progress), strict=True):
        row = dataclasses.asdict(seen.header) if seen.header else {}
        look = None if seen.look is None else seen.look.tobytes()
        facts = {name: getattr(seen, name) for name in ("problem", "message", "sha256", "phash", "brightness", "peak")}
        rows.append({"key": key, **facts, "look": look, **row})
    return InspectedImages(pa.Table.from_pylist(rows, schema=_ROWS))


def join_shards(dataset: Dataset, parts: Sequence[InspectedImages]) -> list[Inspection]:
    """Return the inspections of all shards, in row order.

    Args:
        parts: Inspected parts that together contain each image once.

    Raises:
        DataError: An image was not inspected.
    """
    rows = pa.concat_tables(part.rows for part in parts)
    row_of = {key: row for row, key in enumerate(rows["key"].to_pylist())}
    keys = dataset.column("key")
    if lacking := next((key for key in keys if key not in row_of), None):
        raise DataError(f"{dataset.name}: {lacking} is in no shard that was validated; run again with --no-cache")
    rows = rows.take(pa.array([row_of[key] for key in keys], pa.int64()))
    return [_inspection(row) for batch in rows.to_batches(4096) for row in batch.to_pylist()]


def _refused(row: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return the row of an image that cannot be used, as `inspect_images` returns it."""
    if row["problem"]:
        return row
    blank = Inspection(Code.OWN_CHECK.value, reason, sha256=row["sha256"])
    facts = {name: getattr(blank, name) for name in ("problem", "message", "sha256", "phash", "brightness", "peak")}
    return {"key": row["key"], **facts}


def _inspection(row: dict[str, Any]) -> Inspection:
    header = {field.name: row[field.name] for field in dataclasses.fields(ImageHeader)}
    look = None if row["look"] is None else np.frombuffer(row["look"], np.uint8).reshape(LOOK_SIZE, LOOK_SIZE)
    facts = {name: row[name] for name in ("problem", "message", "sha256", "phash", "brightness", "peak")}
    return Inspection(**facts, look=look, header=None if header["format"] is None else ImageHeader(**header))
