"""Units: images that stay together, and the draw of each unit."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import ADDED, Dataset
from visionops.data.history import SplitHistory

__all__ = ["Rows", "Splits", "Units"]

Splits = npt.NDArray[np.object_]
"""Split of each image."""
Rows = npt.NDArray[np.int64]
"""Indices of rows or units."""


@dataclasses.dataclass(frozen=True)
class Units:
    """Groups of images that stay together."""

    unit_of: Rows
    """int64 (images,), unit of each image; the order of units does not depend on the order of rows."""
    labels: npt.NDArray[np.int64]
    """(images, classes + 1): 1 where an image shows a class; the last column: it shows none."""
    drawn: npt.NDArray[np.float64]
    """float64 (units,): a hash of each unit's content, uniform over 0 to 1."""
    own: Splits
    """(images,), split of this very file in an earlier version; "" for none."""
    homes: tuple[frozenset[str], ...]
    """For each unit: splits in earlier versions of its images, or of images that look like them."""

    @classmethod
    def of(cls, dataset: Dataset, seed: int, history: SplitHistory | None, distance: int) -> Units:
        """Group the images of a data set by the groups of its reader and by earlier versions.

        Args:
            seed: Seed of the draws.
            history: Splits of earlier versions.
            distance: Maximum Hamming distance of the perceptual hashes of look-alikes.
        """
        keys, hashes, groups = dataset.column("key"), dataset.column("sha256"), dataset.column("group")
        recalled = (history or SplitHistory.empty()).recall(dataset, distance)
        identity = [(digest or key, key) for digest, key in zip(hashes, keys, strict=True)]
        first: dict[tuple[str, ...], int] = {}
        unit_of = np.zeros(len(keys), dtype=np.int64)
        names: list[str] = []
        # A group draws by its first member. Names count up, so later frames and additions do not move the group.
        for row in sorted(range(len(keys)), key=lambda row: (keys[row].startswith(ADDED), keys[row])):
            together, group = recalled.group[row], groups[row]
            unit = (together,) if together else ("", *identity[row])
            unit_of[row] = first.setdefault(unit, len(first))
            if unit_of[row] == len(names):  # a group with a name draws by the name: its frames may come and go
                is_named = group and not group.startswith("alike:") and together == group
                names.append(f"group {group}" if is_named else identity[row][0])
        homes: list[set[str]] = [set() for _ in first]
        for row, number in enumerate(unit_of.tolist()):
            homes[number] |= recalled.homes[row]
        shown = dataset.presence()
        return cls(
            unit_of,
            np.column_stack([shown, ~shown.any(axis=1)]).astype(np.int64),
            np.array([_draw(seed, name) for name in names]),
            np.array(recalled.own, dtype=object),
            tuple(map(frozenset, homes)),
        )

    def rows_of(self) -> list[Rows]:
        """Rows of each unit."""
        order = np.argsort(self.unit_of, kind="stable")
        return np.split(order, np.searchsorted(self.unit_of[order], np.arange(1, len(self.drawn))))


def _draw(seed: int, name: str) -> float:
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:13], 16) / 16**13
