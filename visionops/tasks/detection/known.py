"""Reduce a test split to the boxes whose classes every one of several detectors knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from visionops.data.dataset import Dataset
from visionops.data.findings import counted
from visionops.inference.bundle import BundleCard
from visionops.tasks.spec import Known

__all__ = ["known_boxes"]


def known_boxes(test: Dataset, cards: Sequence[BundleCard]) -> Known:
    """Drop the boxes of classes that a model does not know; keep their images."""
    known = set.intersection(*(set(card.class_names) for card in cards))
    new = tuple(name for name in test.class_names if name not in known)
    if not new:
        return Known(test)
    names = tuple(name for name in test.class_names if name in known)
    class_ids = test.boxes.column("class_id").to_numpy()
    new_id = np.array([names.index(name) if name in known else -1 for name in test.class_names])[class_ids]
    gone = [
        f"{counted(int((class_ids == test.class_names.index(name)).sum()), 'box', 'boxes')} of {name}" for name in new
    ]
    boxes = test.boxes.set_column(
        test.boxes.schema.get_field_index("class_id"), "class_id", pa.array(new_id.astype(np.int32))
    ).filter(pa.array(new_id >= 0))
    return Known(test.with_boxes(boxes, names), new, tuple(gone))
