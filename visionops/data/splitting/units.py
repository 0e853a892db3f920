"""Images that stay together, and the draw of each."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import ADDED, Dataset
from visionops.data.history import SplitHistory

__all__ = ["Rows", "Splits", "Units"]

Splits = npt.NDArray[np.object_]
"""A split for each image."""
Rows = npt.NDArray[np.int64]
"""Numbers of rows or units."""


@dataclasses.dataclass(frozen=True)
class Units:
    """Images that stay together."""

    unit_of: Rows
    """int64 (images,); units are numbered in an order that the order of rows does not change."""
    labels: npt.NDArray[np.int64]
    """(images, classes + 1): 1 where an image shows a class; the last column: it shows none."""
    drawn: npt.NDArray[np.float64]
    """float64 (units,): a hash of each unit's content, even over 0 to 1."""
    own: Splits
    """The split that an earlier version dealt to this very file, (images,); "" for none."""
    homes: tuple[frozenset[str], ...]
    """Of each unit: the splits to which earlier versions dealt its images, or images that look like them."""

    @classmethod
    def of(cls, dataset: Dataset, seed: int, history: SplitHistory | None, distance: int) -> Units:
        """Group the images of a data set, by readers' groups and by what earlier versions knew of them.

        Args:
            seed: Of the draws.
            history: What earlier versions dealt.
            distance: Largest Hamming distance of the perceptual hashes of look-alikes.
        """
        keys, hashes, groups = dataset.column("key"), dataset.column("sha256"), dataset.column("group")
        recalled = (history or SplitHistory.empty()).recall(dataset, distance)
        identity = [(digest or key, key) for digest, key in zip(hashes, keys, strict=True)]
        first: dict[tuple[str, ...], int] = {}
        unit_of = np.zeros(len(keys), dtype=np.int64)
        names: list[str] = []
        # A group is dealt by its first member. Names count up: later frames, and additions, do not move the group.
        for row in sorted(range(len(keys)), key=lambda row: (keys[row].startswith(ADDED), keys[row])):
            together, group = recalled.group[row], groups[row]
            unit = (together,) if together else ("", *identity[row])
            unit_of[row] = first.setdefault(unit, len(first))
            if unit_of[row] == len(names):  # a group that a reader names is dealt by its name: frames may come and go
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
        """The rows of each unit."""
        order = np.argsort(self.unit_of, kind="stable")
        return np.split(order, np.searchsorted(self.unit_of[order], np.arange(1, len(self.drawn))))


def _draw(seed: int, name: str) -> float:
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:13], 16) / 16**13
