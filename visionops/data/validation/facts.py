"""Collect the facts of all inspected images in a table with one row per image, and count them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from visionops.data.dataset import Dataset
from visionops.data.duplicates import LOOK_SIZE
from visionops.data.validation.inspection import Inspection
from visionops.inference.image import ImageHeader, white_level

__all__ = ["FACTS_SCHEMA", "collect_facts", "count_images", "measured_white"]

FACTS_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("problem", pa.string()),  # a `Code` value; "" if the image can be used
        ("format", pa.string()),  # Pillow's name; "" if unusable
        ("mode", pa.string()),
        ("width", pa.int32()),  # pixels after EXIF rotation; 0 if unusable
        ("height", pa.int32()),
        ("orientation", pa.int8()),
        ("frames", pa.int32()),
        ("bits", pa.int8()),  # per channel
        ("plain", pa.bool_()),
        ("sha256", pa.string()),
        ("phash", pa.uint64()),
        ("look", pa.binary(LOOK_SIZE * LOOK_SIZE)),  # grey thumbnail; null if unusable
        ("brightness", pa.float32()),  # mean grey value, 0 to 255, by the white level of the data set
        ("peak", pa.int32()),  # largest sample of a 16-bit file; 0 for others
    ]
)


def measured_white(inspections: Sequence[Inspection]) -> int:
    """Return the white level that holds the brightest sample of all 16-bit files."""
    return white_level(max((seen.peak for seen in inspections), default=0))


def collect_facts(dataset: Dataset, inspections: Sequence[Inspection], white: int) -> pa.Table:
    """Return the facts of all images, in the order of the data set; see `FACTS_SCHEMA`."""
    blank = ImageHeader("", "", 0, 0, 1, 0)
    headers = [i.header or blank for i in inspections]
    columns: dict[str, list[Any]] = {
        "key": dataset.column("key"),
        "problem": [i.problem for i in inspections],
        "plain": [i.header.is_plain if i.header else None for i in inspections],
        "sha256": [i.sha256 for i in inspections],
        "phash": [i.phash for i in inspections],
        "look": [None if i.look is None else i.look.tobytes() for i in inspections],
        "brightness": [_brightness(i, white) for i in inspections],
        "peak": [i.peak for i in inspections],
    }
    for name in ("format", "mode", "width", "height", "orientation", "frames", "bits"):
        columns[name] = [getattr(h, name) for h in headers]
    return pa.table({f.name: pa.array(columns[f.name], type=f.type) for f in FACTS_SCHEMA}, schema=FACTS_SCHEMA)


def _brightness(seen: Inspection, white: int) -> float:
    """Return the brightness by the white level of the data set."""
    return min(seen.brightness * white_level(seen.peak) / white, 255.0) if seen.peak else seen.brightness


def count_images(dataset: Dataset, facts: pa.Table) -> dict[str, Any]:
    """Return ``counts`` for `ValidationReport`."""
    splits = np.array(dataset.column("split"), dtype=object)
    pairs = np.argwhere(dataset.presence()) if dataset.attributes else np.column_stack(dataset.box_arrays()[:2])
    per_split = {
        split: np.bincount(pairs[splits[pairs[:, 0]] == split, 1], minlength=len(dataset.all_class_names)).tolist()
        for split in dataset.split_counts()
    }
    return {
        "images": dataset.num_images,
        "usable": facts.column("problem").to_pylist().count(""),
        "boxes": dataset.num_boxes,
        "splits": dataset.split_counts(),
        "classes": {
            name: {split: counts[index] for split, counts in per_split.items()}
            for index, name in enumerate(dataset.all_class_names)
        },
    }
